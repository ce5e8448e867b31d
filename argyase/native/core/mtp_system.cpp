#include "mtp_system.h"

#include <algorithm>

namespace argyase {
System::System(const Kernel& kernel, int threads)
    : kernel_(kernel), workers_(std::max(1, threads)), threads_(std::max(1, threads)) {
  for (Worker& w : workers_) w.work = kernel.workspace();
}

void System::build(int centres, int count, const double* x, const int* species, double skin) {
  list_.build(centres, count, x, species, kernel_.species_count(), kernel_.cutoff() + skin, kernel_.search(),
              threads_);
}

// Positions in the order of the places, in A and on a grid as fine as 31 bits allow: 1e-8 A for 40 A.
void System::place(const double* x, int parts) {
  const int count = list_.places();
  x_.resize(4 * static_cast<size_t>(count) + 4), grid_.resize(x_.size());
  double low[3], high[3];
  extent(count, x, low, high);
  // The place behind the last one is three cutoffs away from the nearest of the others.
  double edge = 0.0;
  for (int c = 0; c < 3; ++c) edge = std::max(edge, high[c] - low[c]);
  edge += 3.0 * kernel_.cutoff();
  const double step = edge / 2147483000.0;
  const double middle[3] = {low[0] + 0.5 * edge, low[1] + 0.5 * edge, low[2] + 0.5 * edge};
  const Put put = kernel_.put();
  threads_.run(parts, [&](int n) {
    put(x, list_.atoms(), share(count, n, parts), share(count, n + 1, parts), middle, 1.0 / step, x_.data(),
        grid_.data());
  });
  const double far[3] = {low[0] + edge, low[1] + edge, low[2] + edge};
  const int behind = 0;
  put(far, &behind, 0, 1, middle, 1.0 / step, x_.data() + 4 * static_cast<size_t>(count),
      grid_.data() + 4 * static_cast<size_t>(count));
  places_ = {count, x_.data(), grid_.data(), step};
}

template <class T>
double System::compute(const double* x, double* f, const Outputs& out) {
  const int places = list_.places(), centres = list_.centres(), parts = threads_.parts(centres);
  place(x, parts);
  threads_.run(parts, [&](int n) {
    Worker& w = workers_[n];
    w.f.assign(4 * static_cast<size_t>(places + 1), 0.0);
    if (out.atom_virials) w.v.assign(8 * static_cast<size_t>(places + 1), 0.0);
    w.energy = 0;
    // Whole batches for each.
    const int batches = (centres + kBatch - 1) / kBatch;
    work<T>(w, share(batches, n, parts) * kBatch, std::min(centres, share(batches, n + 1, parts) * kBatch),
            out);
  });
  threads_.run(parts, [&](int n) {
    for (int p = share(places, n, parts), end = share(places, n + 1, parts); p < end; ++p) {
      double* to = f + 3 * static_cast<size_t>(list_.atom(p));
      for (int k = 0; k < parts; ++k) {
        const double* from = workers_[k].f.data() + 4 * static_cast<size_t>(p);
        to[0] += from[0], to[1] += from[1], to[2] += from[2];
      }
      if (!out.atom_virials) continue;
      to = out.atom_virials + 6 * static_cast<size_t>(list_.atom(p));
      for (int k = 0; k < parts; ++k) {
        const double* from = workers_[k].v.data() + 8 * static_cast<size_t>(p);
        for (int c = 0; c < 3; ++c) to[c] += from[c], to[3 + c] += from[4 + c];
      }
    }
  });
  double energy = 0;
  for (int n = 0; n < parts; ++n) energy += workers_[n].energy;
  return energy;
}

template <class T>
void System::work(Worker& worker, int first, int last, const Outputs& out) {
  const int kinds = kernel_.species_count(), scalars = kernel_.scalar_count();
  const Filter filter = kernel_.filter();
  const Target target{worker.f.data(), out.atom_virials ? worker.v.data() : nullptr};
  for (int start = first; start < last; start += kBatch) {
    const int n = std::min(kBatch, last - start);
    int kind[kBatch];
    for (int b = 0; b < n; ++b) {
      const int* segment = list_.segment(start + b);
      Neighbours& nb = worker.neighbours[b];
      nb.reserve(segment[kinds] - segment[0], kinds);
      nb.place = list_.centre(start + b);
      nb.species = kind[b] = list_.species(nb.place);
      filter(places_, list_.neighbours(start + b), segment, kinds, kernel_.cutoff(), nb);
    }
    double energy[kBatch], grades[kBatch], *basis = nullptr;
    if (out.grades || out.basis) {
      worker.basis.resize(static_cast<size_t>(scalars) * kBatch);
      basis = worker.basis.data();
    }
    kernel_.compute<T>(*worker.work, n, worker.neighbours, places_, energy, target, basis, repulsion_);
    if (out.grades) active_->grades(n, kind, basis, grades);
    for (int b = 0; b < n; ++b) {
      const size_t atom = list_.atom(worker.neighbours[b].place);
      worker.energy += energy[b];
      if (out.energies) out.energies[atom] = energy[b];
      if (out.grades) out.grades[atom] = grades[b];
      if (out.basis)
        for (int s = 0; s < scalars; ++s) out.basis[atom * scalars + s] = basis[s * kBatch + b];
    }
  }
}

template double System::compute<double>(const double*, double*, const Outputs&);
template double System::compute<float>(const double*, double*, const Outputs&);

}  // namespace argyase
