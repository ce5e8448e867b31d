#include "mtp_kernel.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "mtp_impl.h"
#include "repulsion.h"

namespace argyase {
namespace {

bool forced(const char* name) {
  const char* set = std::getenv("ARGYASE_MTP_ISA");
  return set && std::strcmp(set, name) == 0;
}

Selection select(const std::vector<int>& rank, const char* isa, const Potential& p) {
  // "generic" is an algorithm on any set: without the code for fixed ranks.
  const int count = forced("generic") ? 0 : static_cast<int>(rank.size());
#if defined(__x86_64__)
  if (std::strcmp(isa, "avx512") == 0) return select_avx512(rank.data(), count, p);
  if (std::strcmp(isa, "avx2") == 0) return select_avx2(rank.data(), count, p);
#endif
  return select_baseline(rank.data(), count, p);
}

// Rounding in a sum of powers of xi grows by 1 + sqrt(2) with each power: to 300 units in the last place of
// the largest coefficient for the 8 polynomials that MLIP takes, 3000 for 10. Beyond that, Chebyshev's
// recursion.
constexpr int kMostPowers = 10;

// The radial functions side by side, times scaling.
void prepare_radial(Kernel::Impl& k) {
  const Potential& p = k.potential;
  const int basis = p.radial_basis_size, mus = p.radial_funcs_count,
            pairs = p.species_count * p.species_count;
  k.chebyshev = basis > kMostPowers;
  // T_b = sum_n powers[b][n] xi^n.
  std::vector<std::vector<double>> powers(basis, std::vector<double>(basis, 0.0));
  for (int b = 0; b < basis; ++b) {
    if (b < 2 || k.chebyshev) {
      powers[b][b] = 1.0;
      continue;
    }
    for (int n = 0; n < basis; ++n)
      powers[b][n] = (n > 0 ? 2.0 * powers[b - 1][n - 1] : 0.0) - powers[b - 2][n];
  }
  for (int pair = 0; pair < pairs; ++pair)
    for (int n = 0; n < basis; ++n)
      for (int m = 0; m < mus; ++m) {
        const double* c = p.radial_coeffs.data() + (static_cast<size_t>(pair) * mus + m) * basis;
        double sum = 0.0;
        for (int b = n; b < basis; ++b) sum += c[b] * powers[b][n];
        sum *= p.scaling;
        k.radial.insert(k.radial.end(), k.selection.copies, sum);
        k.radial_single.insert(k.radial_single.end(), k.selection.copies_single, static_cast<float>(sum));
      }
}

// A slot for each basic moment of the kernel; returns those of the file's.
std::vector<int> prepare_slots(Kernel::Impl& k) {
  const Selection& selection = k.selection;
  for (const int rank : k.rank) {
    k.offset.push_back(k.basic_slots);
    k.basic_slots += monomials(rank);
  }
  std::vector<int> slot;
  for (const auto& [mu, a, b, c] : k.potential.index_basic) {
    const int n = k.offset[mu] + monomial(a, b, c);
    slot.push_back(selection.mus ? selection.slot_of[n] : n);
  }
  k.sums = selection.mus ? selection.columns : k.basic_slots;
  if (selection.mus) k.basic_slots = selection.slots;
  return slot;
}

void prepare_products(Kernel::Impl& k, const std::vector<int>& basic_slot) {
  const Potential& p = k.potential;
  const int basic = static_cast<int>(basic_slot.size()), moments = p.alpha_moments_count,
            count = static_cast<int>(p.index_times.size());
  k.slots = k.basic_slots + moments - basic;
  std::vector<double> weight(moments, 0.0);
  for (size_t s = 0; s < p.moment_mapping.size(); ++s) {
    const int m = p.moment_mapping[s];
    weight[m] += p.moment_coeffs[s];
    k.scalars.push_back(
        {kBatch * (m < basic ? basic_slot[m] : k.basic_slots + m - basic), p.moment_coeffs[s]});
  }
  std::vector<Times> times;
  for (const auto& [a, b, factor, c] : p.index_times) times.push_back({a, b, factor, c});
  std::vector<int> work(4 * static_cast<size_t>(count) + 6 * static_cast<size_t>(moments) + k.basic_slots + 2,
                        0);
  k.program.resize(static_cast<size_t>(k.basic_slots) + 2 * static_cast<size_t>(moments));
  k.terms.resize(3 * static_cast<size_t>(count));
  k.plan = plan_products(times.data(), count, basic, moments, basic_slot.data(), k.basic_slots,
                         k.program.data(), k.terms.data(), work.data());
  k.program.resize(k.plan.sums), k.terms.resize(k.plan.terms);
  for (const Sum& sum : k.program) k.starts.push_back(sum.moment < 0 ? 0.0 : weight[sum.moment]);
  for (const Term& term : k.terms)
    k.factors.push_back(term.factor * (term.moment < 0 ? 1.0 : weight[term.moment]));
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

const char* instruction_set() {
#if defined(__x86_64__)
  const bool any = !std::getenv("ARGYASE_MTP_ISA") || forced("generic");
  __builtin_cpu_init();
  // AMD's family 25 (Zen 4) executes vectors of 512 bits as two halves: measured, no faster than with AVX2,
  // and slower in single precision.
  const bool wide = (any && !__builtin_cpu_is("amdfam19h")) || forced("avx512");
  if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return "avx512";
  if ((any || forced("avx512") || forced("avx2")) && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma"))
    return "avx2";
#endif
  return "baseline";
}

void Neighbours::grow(int count, int kinds) {
  begin.resize(kinds + 1);
  const size_t n = 2 * static_cast<size_t>(count) + kOverrun;
  tag.resize(n), marks.resize(n);
}

Kernel::Kernel(const Potential& potential) : impl_(std::make_unique<Impl>()) {
  Impl& k = *impl_;
  k.potential = potential;
  const Potential& p = k.potential;
  k.rank.assign(p.radial_funcs_count, -1);
  for (const auto& [mu, a, b, c] : p.index_basic) k.rank[mu] = std::max(k.rank[mu], a + b + c);
  k.isa = instruction_set();
  k.selection = select(k.rank, k.isa, p);
  const Selection& selection = k.selection;
  // A kernel with fixed ranks may make more moments than the file asks for.
  for (int m = 0; m < selection.mus; ++m) k.rank[m] = selection.rank[m];
  for (const int rank : k.rank) k.top_rank = std::max(k.top_rank, rank);
  for (int m = 0; m < monomials(k.top_rank); ++m) {
    const auto [a, b, c] = powers(m);
    const auto [parent, axis] = step_to(m);
    k.parent.push_back(parent), k.axis.push_back(axis);
    if (a + b + c < k.top_rank) {
      k.up.insert(k.up.end(), {monomial(a + 1, b, c), monomial(a, b + 1, c), monomial(a, b, c + 1)});
      k.factor.insert(k.factor.end(), {a + 1.0, b + 1.0, c + 1.0});
    }
  }
  prepare_products(k, prepare_slots(k));
  prepare_radial(k);
}

Kernel::~Kernel() = default;
Kernel::Kernel(Kernel&&) noexcept = default;

double Kernel::cutoff() const { return impl_->potential.max_dist; }
int Kernel::species_count() const { return impl_->potential.species_count; }
int Kernel::scalar_count() const { return static_cast<int>(impl_->scalars.size()); }
const char* Kernel::isa() const { return impl_->isa; }
Filter Kernel::filter() const { return impl_->selection.filter; }
Search Kernel::search() const { return impl_->selection.search; }
Put Kernel::put() const { return impl_->selection.put; }
std::unique_ptr<Workspace> Kernel::workspace() const { return std::make_unique<Workspace>(); }

template <class T>
void Kernel::compute(Workspace& work, int n, Neighbours* neighbours, const Places& at, double* energy,
                     const Target& target, double* basis, const Repulsion* repulsion) const {
  const Impl& k = *impl_;
  const int kinds = species_count(), rows = 5 + 2 * k.potential.radial_funcs_count;
  const auto room = [](Array<double>& a, size_t count) {
    if (a.size() < count) a.resize(count);
    return a.data();
  };
  Batch<T> batch{};
  batch.n = n, batch.at = at, batch.target = target, batch.energy = energy;
  size_t need = 0;
  constexpr int line = kLine / static_cast<int>(sizeof(T));
  for (int i = 0; i < n; ++i) {
    Neighbours& nb = neighbours[i];
    const int count = nb.begin[kinds];
    for (int m = count; m < count + kOverrun; ++m) nb.tag[m] = 4 * at.count;
    // Whole cache lines, an odd number of them, so that the rows do not fall onto the same cache set. The
    // last vector may begin with the last number of the last whole vector.
    const int stride = ((count + 3 * line - 3) / line | 1) * line;
    need += static_cast<size_t>(rows) * stride;
    batch.atom[i] = {nb.place, nb.species, count, stride, nb.begin.data(), nb.tag.data(), nullptr};
  }
  batch.moments = room(work.moments, static_cast<size_t>(k.slots) * kBatch);
  batch.adjoint = room(work.adjoint, static_cast<size_t>(k.slots) * kBatch);
  batch.columns = room(work.columns, static_cast<size_t>(k.sums) * kBatch);
  // In units of doubles: enough for either type.
  batch.tables = reinterpret_cast<T*>(
      room(work.tables, static_cast<size_t>(2 * monomials(k.top_rank) + k.sums) * (2 * kLine / sizeof(T))));
  batch.coefficients = reinterpret_cast<T*>(
      room(work.coefficients, static_cast<size_t>(k.sums) * kBatch * kLine / sizeof(double)));
  T* row = reinterpret_cast<T*>(room(work.rows, need));
  for (int i = 0; i < n; ++i) {
    batch.atom[i].rows = row;
    row += static_cast<size_t>(rows) * batch.atom[i].stride;
  }
  run_of<T>(k.selection)(k, batch);
  if (basis)
    for (size_t s = 0; s < k.scalars.size(); ++s)
      std::copy_n(batch.moments + k.scalars[s].place, kBatch, basis + s * kBatch);
  if (repulsion)
    for (int i = 0; i < n; ++i) {
      const T* distances = batch.atom[i].rows + 4 * batch.atom[i].stride;
      energy[i] += repulsion->add(neighbours[i], distances, at, target);
    }
}
template void Kernel::compute<double>(Workspace&, int, Neighbours*, const Places&, double*, const Target&,
                                      double*, const Repulsion*) const;
template void Kernel::compute<float>(Workspace&, int, Neighbours*, const Places&, double*, const Target&,
                                     double*, const Repulsion*) const;

}  // namespace argyase
