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

}  // namespace

void Neighbours::reserve(int count, int species) {
  const size_t n = static_cast<size_t>(count) + static_cast<size_t>(species) * kPad;
  begin.resize(species + 1);
  end.resize(species);
  if (x.size() >= n) return;
  for (auto* v : {&x, &y, &z, &r2, &gx, &gy, &gz}) v->resize(n);
  tag.resize(n);
}

Kernel::Kernel(const Potential& potential) : impl_(std::make_unique<Impl>()) {
  Impl& k = *impl_;
  k.potential = potential;
  const Potential& p = k.potential;
  k.rank.assign(p.radial_funcs_count, -1);
  for (const auto& [mu, a, b, c] : p.index_basic) k.rank[mu] = std::max(k.rank[mu], a + b + c);
  const Selection selection = select(k.rank, &k.isa);
  k.run = selection.run;
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
  k.radial = p.radial_coeffs;
  for (double& c : k.radial) c *= p.scaling;
}

Kernel::~Kernel() = default;
Kernel::Kernel(Kernel&&) noexcept = default;

double Kernel::cutoff() const { return impl_->potential.max_dist; }
int Kernel::species_count() const { return impl_->potential.species_count; }
const char* Kernel::isa() const { return impl_->isa; }
std::unique_ptr<Workspace> Kernel::workspace() const { return std::make_unique<Workspace>(); }

void Kernel::compute(Workspace& work, int n, const int* species, Neighbours* neighbours,
                     double* energy) const {
  const Impl& k = *impl_;
  const double rc = cutoff();
  const int kinds = species_count(), rows = 4 + 2 * k.potential.radial_funcs_count;
  Batch batch{};
  batch.n = n;
  size_t need = 0;
  for (int i = 0; i < n; ++i) {
    Neighbours& nb = neighbours[i];
    for (int s = 0; s < kinds; ++s)
      for (int m = nb.end[s]; m < nb.begin[s + 1]; ++m) {
        nb.x[m] = rc, nb.y[m] = nb.z[m] = 0.0, nb.r2[m] = rc * rc;
        nb.tag[m] = -1;
      }
    // An odd number of pads apart, so that the rows do not fall onto the same cache set.
    const int stride = nb.begin[kinds] + Neighbours::kPad;
    need += static_cast<size_t>(rows) * stride;
    batch.atom[i] = {species[i],  stride,       nb.begin.data(), nb.end.data(), nb.x.data(),  nb.y.data(),
                     nb.z.data(), nb.r2.data(), nb.gx.data(),    nb.gy.data(),  nb.gz.data(), nullptr};
  }
  const size_t moments = static_cast<size_t>(k.moments) * kBatch;
  const size_t tables = static_cast<size_t>(2 * monomials(k.top_rank) + k.dense) * Neighbours::kPad;
  if (work.radial.size() < need) work.radial.resize(need);
  work.moments.resize(moments);
  work.adjoint.resize(moments);
  work.row.resize(k.dense);
  work.tables.resize(tables);
  // Lanes without an atom compute with zeros.
  if (n < kBatch) std::fill(work.moments.begin(), work.moments.end(), 0.0);
  double* scratch = work.radial.data();
  for (int i = 0; i < n; ++i) {
    batch.atom[i].scratch = scratch;
    scratch += static_cast<size_t>(rows) * batch.atom[i].stride;
  }
  batch.energy = energy;
  batch.moments = work.moments.data();
  batch.adjoint = work.adjoint.data();
  batch.row = work.row.data();
  batch.tables = work.tables.data();
  k.run(k, batch);
}

}  // namespace argyase
