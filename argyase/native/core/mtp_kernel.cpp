#include "mtp_kernel.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "mtp_impl.h"

namespace argyase {
namespace {

Selection select(const std::vector<int>& rank, const char** isa) {
  const char* forced = std::getenv("ARGYASE_MTP_ISA");
  const bool tables = forced && std::strcmp(forced, "generic") == 0;
  const int count = tables ? 0 : static_cast<int>(rank.size());
#if defined(__x86_64__)
  const auto allowed = [&](const char* name) { return !forced || tables || std::strcmp(forced, name) == 0; };
  __builtin_cpu_init();
  if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    *isa = "avx512";
    return select_avx512(rank.data(), count);
  }
  if ((allowed("avx2") || allowed("avx512")) && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma")) {
    *isa = "avx2";
    return select_avx2(rank.data(), count);
  }
#endif
  *isa = "baseline";
  return select_baseline(rank.data(), count);
}

// Chebyshev coefficients times scaling, b U_{b-1} for the derivatives, the radial functions side by side.
void prepare_radial(Kernel::Impl& k) {
  const Potential& p = k.potential;
  const int basis = p.radial_basis_size, mus = p.radial_funcs_count,
            pairs = p.species_count * p.species_count;
  const double slope = 2.0 / (p.max_dist - p.min_dist);
  for (int pair = 0; pair < pairs; ++pair)
    for (int b = 0; b < basis; ++b)
      for (int m = 0; m < mus; ++m) {
        const double c = p.scaling * p.radial_coeffs[(static_cast<size_t>(pair) * mus + m) * basis + b];
        k.radial.value.push_back(c);
        k.radial.slope.push_back(c * b * slope);
      }
  k.radial_single.value.assign(k.radial.value.begin(), k.radial.value.end());
  k.radial_single.slope.assign(k.radial.slope.begin(), k.radial.slope.end());
}

void prepare_folds(Kernel::Impl& k) {
  for (size_t m = 0; m < k.rank.size(); ++m) {
    const int first = k.offset[m];
    for (int degree = 0; degree <= k.rank[m]; ++degree)
      for (int c = 0; c < 2; ++c)
        for (int b = 0; b <= degree - c; ++b) {
          const int a = degree - c - b;
          k.sum_of.push_back(first + monomial(a, b, c));
          // x^a y^b z^c occurs degree! / (a! b! c!) times in the contraction of the symmetric tensor.
          double times = 1.0;
          for (int i = 1; i <= degree; ++i) times *= i;
          for (const int power : {a, b})
            for (int i = 2; i <= power; ++i) times /= i;
          k.tensor.push_back(1.0 / times);
          k.degree.push_back(degree);
        }
    for (int c = 2; c <= k.rank[m]; ++c)
      for (int a = 0; a + c <= k.rank[m]; ++a)
        for (int b = 0; a + b + c <= k.rank[m]; ++b)
          k.folds.push_back({first + monomial(a, b, c), first + monomial(a, b, c - 2),
                             first + monomial(a + 2, b, c - 2), first + monomial(a, b + 2, c - 2)});
  }
}

template <class T>
Run<T> run_of(const Selection&);
template <>
Run<double> run_of<double>(const Selection& s) {
  return s.run;
}
template <>
Run<float> run_of<float>(const Selection& s) {
  return s.run_single;
}

}  // namespace

template <class T>
void Neighbours<T>::reserve(int count, int species) {
  const size_t n = static_cast<size_t>(count) + kPad;
  begin.resize(species + 1);
  if (x.size() >= n) return;
  for (auto* v : {&x, &y, &z, &r2, &gx, &gy, &gz}) v->resize(n);
  tag.resize(n);
}
template struct Neighbours<double>;
template struct Neighbours<float>;

Kernel::Kernel(const Potential& potential) : impl_(std::make_unique<Impl>()) {
  Impl& k = *impl_;
  k.potential = potential;
  const Potential& p = k.potential;
  k.rank.assign(p.radial_funcs_count, -1);
  for (const auto& [mu, a, b, c] : p.index_basic) k.rank[mu] = std::max(k.rank[mu], a + b + c);
  k.selection = select(k.rank, &k.isa);
  const Selection& selection = k.selection;
  // A kernel with fixed ranks keeps its own dense layout, which may be larger than the file's.
  for (int m = 0; m < selection.mus; ++m) k.rank[m] = selection.rank[m];
  for (const int rank : k.rank) {
    k.offset.push_back(k.dense);
    k.dense += monomials(rank);
    k.top_rank = std::max(k.top_rank, rank);
  }
  for (const auto& [mu, a, b, c] : p.index_basic) k.dense_of.push_back(k.offset[mu] + monomial(a, b, c));
  for (int m = 0; m < monomials(k.top_rank); ++m) {
    const auto [a, b, c] = powers(m);
    k.axis.push_back(a > 0 ? 0 : b > 0 ? 1 : 2);
    k.parent.push_back(m == 0  ? 0
                       : a > 0 ? monomial(a - 1, b, c)
                       : b > 0 ? monomial(a, b - 1, c)
                               : monomial(a, b, c - 1));
    if (a + b + c < k.top_rank) {
      k.up.insert(k.up.end(), {monomial(a + 1, b, c), monomial(a, b + 1, c), monomial(a, b, c + 1)});
      k.factor.insert(k.factor.end(), {a + 1.0, b + 1.0, c + 1.0});
    }
  }
  k.basic = static_cast<int>(p.index_basic.size());
  k.moments = p.alpha_moments_count;
  for (const auto& [a, b, factor, c] : p.index_times)
    k.products.push_back({a, b, c, static_cast<double>(factor)});
  for (size_t s = 0; s < p.moment_mapping.size(); ++s)
    k.scalars.push_back({p.moment_mapping[s], p.moment_coeffs[s]});
  prepare_radial(k);
  if (selection.mus) prepare_folds(k);
}

Kernel::~Kernel() = default;
Kernel::Kernel(Kernel&&) noexcept = default;

double Kernel::cutoff() const { return impl_->potential.max_dist; }
int Kernel::species_count() const { return impl_->potential.species_count; }
int Kernel::scalar_count() const { return static_cast<int>(impl_->scalars.size()); }
const char* Kernel::isa() const { return impl_->isa; }
template <>
Pack<double> Kernel::pack<double>() const {
  return impl_->selection.pack;
}
template <>
Pack<float> Kernel::pack<float>() const {
  return impl_->selection.pack_single;
}
template <>
Scatter<double> Kernel::scatter<double>() const {
  return impl_->selection.scatter;
}
template <>
Scatter<float> Kernel::scatter<float>() const {
  return impl_->selection.scatter_single;
}
Near Kernel::near() const { return impl_->selection.near; }
std::unique_ptr<Workspace> Kernel::workspace() const { return std::make_unique<Workspace>(); }

template <class T>
void Kernel::compute(Workspace& work, int n, const int* species, Neighbours<T>* neighbours, double* energy,
                     double* basis) const {
  const Impl& k = *impl_;
  const T rc = static_cast<T>(cutoff());
  const int kinds = species_count(), rows = 4 + 2 * k.potential.radial_funcs_count, pad = Neighbours<T>::kPad;
  const auto room = [](Array<double>& a, size_t count) {
    if (a.size() < count) a.resize(count);
    return a.data();
  };
  Batch<T> batch{};
  batch.n = n;
  size_t need = 0;
  for (int i = 0; i < n; ++i) {
    Neighbours<T>& nb = neighbours[i];
    const int count = nb.begin[kinds];
    for (int m = count; m < count + pad; ++m) {
      nb.x[m] = rc, nb.y[m] = nb.z[m] = 0, nb.r2[m] = rc * rc;
    }
    // Whole cache lines, and an odd number of them apart, so that the rows do not fall onto the same cache
    // set.
    const int line = kLine / static_cast<int>(sizeof(T));
    const int stride = ((count + pad + line - 1) / line | 1) * line;
    need += static_cast<size_t>(rows) * stride;
    batch.atom[i] = {species[i],  stride,       count,        nb.begin.data(), nb.x.data(),  nb.y.data(),
                     nb.z.data(), nb.r2.data(), nb.gx.data(), nb.gy.data(),    nb.gz.data(), nullptr};
  }
  batch.energy = energy;
  batch.moments = room(work.moments, static_cast<size_t>(k.moments) * kBatch);
  batch.adjoint = room(work.adjoint, static_cast<size_t>(k.moments) * kBatch);
  batch.dense = room(work.dense, static_cast<size_t>(k.dense) * kBatch);
  // In units of doubles: enough for either type.
  batch.tables =
      reinterpret_cast<T*>(room(work.tables, static_cast<size_t>(2 * monomials(k.top_rank) + k.dense) * pad));
  batch.coefficients =
      reinterpret_cast<T*>(room(work.coefficients, static_cast<size_t>(2 * k.dense) * kBatch));
  T* row = reinterpret_cast<T*>(room(work.rows, need));
  for (int i = 0; i < n; ++i) {
    batch.atom[i].rows = row;
    row += static_cast<size_t>(rows) * batch.atom[i].stride;
  }
  // Lanes without an atom compute with zeros.
  if (n < kBatch) std::fill(work.dense.begin(), work.dense.end(), 0.0);
  run_of<T>(k.selection)(k, batch);
  if (basis)
    for (size_t s = 0; s < k.scalars.size(); ++s)
      std::copy_n(batch.moments + k.scalars[s].moment * kBatch, kBatch, basis + s * kBatch);
}
template void Kernel::compute(Workspace&, int, const int*, Neighbours<double>*, double*, double*) const;
template void Kernel::compute(Workspace&, int, const int*, Neighbours<float>*, double*, double*) const;

}  // namespace argyase
