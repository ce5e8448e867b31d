#include "mtp_system.h"

#include <algorithm>

namespace argyase {

System::System(const Kernel& kernel, int threads)
    : kernel_(kernel), workers_(std::max(1, threads)), threads_(std::max(1, threads)) {
  for (Worker& w : workers_) w.work = kernel.workspace();
}

void System::build(int centres, int count, const double* x, const int* species, double skin) {
  list_.build(centres, count, x, species, kernel_.species_count(), kernel_.cutoff() + skin, kernel_.near(),
              threads_);
  species_.resize(count);
  for (int p = 0; p < count; ++p) species_[p] = species[list_.atom(p)];
}

template <class T>
double System::compute(const double* x, double* f, const Outputs& out) {
  const int places = list_.places(), centres = list_.centres();
  x_.resize(4 * static_cast<size_t>(places));
  for (int p = 0; p < places; ++p) {
    const double* from = x + 3 * static_cast<size_t>(list_.atom(p));
    double* to = x_.data() + 4 * static_cast<size_t>(p);
    to[0] = from[0], to[1] = from[1], to[2] = from[2];
  }
  // Waking a thread costs about as much as the work on 50 atoms.
  const int parts = std::clamp(centres / 100, 1, threads_.count());
  const auto share = [&](int n) {
    // Whole batches for each.
    const int batches = (centres + kBatch - 1) / kBatch;
    return std::min(centres, static_cast<int>(static_cast<long long>(batches) * n / parts) * kBatch);
  };
  const auto each = [&](int n) {
    if (n >= parts) return;
    Worker& w = workers_[n];
    w.f.assign(4 * static_cast<size_t>(places), 0.0);
    if (out.atom_virials) w.v.assign(6 * static_cast<size_t>(places), 0.0);
    w.energy = 0;
    work<T>(w, share(n), share(n + 1), out);
  };
  if (parts == 1)
    each(0);
  else
    threads_.run(each);

  double energy = 0;
  for (int n = 0; n < parts; ++n) {
    const Worker& w = workers_[n];
    energy += w.energy;
    for (int p = 0; p < places; ++p) {
      double* to = f + 3 * static_cast<size_t>(list_.atom(p));
      const double* from = w.f.data() + 4 * static_cast<size_t>(p);
      to[0] += from[0], to[1] += from[1], to[2] += from[2];
    }
    if (out.atom_virials)
      for (int p = 0; p < places; ++p)
        for (int c = 0; c < 6; ++c)
          out.atom_virials[6 * static_cast<size_t>(list_.atom(p)) + c] += w.v[6 * static_cast<size_t>(p) + c];
  }
  return energy;
}

template <class T>
void System::work(Worker& worker, int first, int last, const Outputs& out) {
  const int kinds = kernel_.species_count();
  const double cutoff2 = kernel_.cutoff() * kernel_.cutoff();
  const double* x = x_.data();
  const Pack<T> pack = kernel_.pack<T>();
  const Scatter<T> scatter = kernel_.scatter<T>();
  Neighbours<T>* batch;
  if constexpr (sizeof(T) == sizeof(double))
    batch = worker.in_double;
  else
    batch = worker.in_single;

  for (int start = first; start < last; start += kBatch) {
    const int n = std::min(kBatch, last - start);
    int kind[kBatch];
    for (int b = 0; b < n; ++b) {
      const int place = list_.centre(start + b);
      const int *segment = list_.segment(start + b), *list = list_.neighbours(start + b);
      Neighbours<T>& nb = batch[b];
      nb.reserve(segment[kinds] - segment[0], kinds);
      kind[b] = species_[place];
      int m = 0;
      for (int s = 0; s < kinds; ++s) {
        nb.begin[s] = m;
        m = pack(x, list + segment[s], segment[s + 1] - segment[s], x + 4 * static_cast<size_t>(place),
                 cutoff2, nb, m);
      }
      nb.begin[kinds] = m;
    }
    double energy[kBatch];
    double* basis = nullptr;
    if (out.grades || out.basis) {
      worker.basis.resize(static_cast<size_t>(kernel_.scalar_count()) * kBatch);
      basis = worker.basis.data();
    }
    kernel_.compute(*worker.work, n, kind, batch, energy, basis);
    for (int b = 0; b < n && repulsion_; ++b) energy[b] += repulsion_->add(kind[b], batch[b]);
    double grades[kBatch];
    if (out.grades) active_->grades(n, kind, basis, grades);

    double* f = worker.f.data();
    for (int b = 0; b < n; ++b) {
      const int place = list_.centre(start + b);
      const Neighbours<T>& nb = batch[b];
      const int count = nb.begin[kinds];
      scatter(nb, count, place, f);
      worker.energy += energy[b];
      if (out.energies) out.energies[list_.atom(place)] = energy[b];
      if (out.grades) out.grades[list_.atom(place)] = grades[b];
      if (out.basis)
        for (int s = 0; s < kernel_.scalar_count(); ++s)
          out.basis[static_cast<size_t>(list_.atom(place)) * kernel_.scalar_count() + s] =
              basis[s * kBatch + b];
      if (out.atom_virials)
        for (int m = 0; m < count; ++m) {
          const double x_m = nb.x[m], y_m = nb.y[m], z_m = nb.z[m];
          const double v[6] = {-0.5 * x_m * nb.gx[m], -0.5 * y_m * nb.gy[m], -0.5 * z_m * nb.gz[m],
                               -0.5 * x_m * nb.gy[m], -0.5 * x_m * nb.gz[m], -0.5 * y_m * nb.gz[m]};
          for (int c = 0; c < 6; ++c) {
            worker.v[6 * static_cast<size_t>(place) + c] += v[c];
            worker.v[6 * static_cast<size_t>(nb.tag[m]) + c] += v[c];
          }
        }
    }
  }
}

template double System::compute<double>(const double*, double*, const Outputs&);
template double System::compute<float>(const double*, double*, const Outputs&);

}  // namespace argyase
