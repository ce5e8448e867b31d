// What the kernels of all instruction sets share. Private to core/.
#pragma once

#include <array>
#include <vector>

#include "mtp_kernel.h"

namespace argyase {

// Number of monomials x^a y^b z^c of degree 0 ... rank; none for rank -1.
static constexpr int monomials(int rank) { return (rank + 1) * (rank + 2) * (rank + 3) / 6; }

// Monomials are numbered by degree, then by falling a, then by falling b.
static constexpr int monomial(int a, int b, int c) {
  const int degree = a + b + c, below = degree - a;
  return monomials(degree - 1) + below * (below + 1) / 2 + c;
}

struct Powers {
  int a, b, c;
};

static constexpr Powers powers(int index) {
  int degree = 0;
  while (monomials(degree) <= index) ++degree;
  int left = index - monomials(degree - 1), below = 0;
  while (left > below) left -= ++below;
  return {degree - below, below - left, left};
}

// Each monomial but the first is one of lower degree, `parent`, times component `axis` of the unit vector.
struct Step {
  int parent, axis;
};

static constexpr Step step_to(int index) {
  const auto [a, b, c] = powers(index);
  if (a > 0) return {monomial(a - 1, b, c), 0};
  if (b > 0) return {monomial(a, b - 1, c), 1};
  return {c > 0 ? monomial(a, b, c - 1) : 0, 2};
}

// On the unit sphere z^2 = 1 - x^2 - y^2: monomials with c = 0 or 1 are enough, 2k + 1 of degree k, (R + 1)^2
// in all. Numbered by degree, then c, then rising b.
static constexpr int reduced(int rank) { return (rank + 1) * (rank + 1); }
static constexpr int reduced(int degree, int b, int c) { return degree * degree + (c ? degree + 1 : 0) + b; }

// A product of an .mtp file: moment c += factor moment a moment b.
struct Times {
  int a, b, factor, c;
};

// Moments and their adjoints stand in arrays of (slot, lane), and places there are counted in numbers: kBatch
// times the slot. A moment that is made of others is a sum of terms factor M_a M_b. The adjoint of a moment,
// dE/dM, is the sum of its weight in the energy, of `constants` terms factor w_c M_a for products c on which
// only the energy depends, and of terms factor M_a adj_b.
struct Sum {
  int place, moment, constants, terms;  // moment: whose weight it starts from, -1 for none
};
struct Term {
  int factor, a, b, moment;  // b, or with constants the moment whose weight w_c counts
};

// Which sums, in an order in which each needs only those before it: first the products, then the adjoints.
struct Plan {
  int sums = 0, terms = 0, products = 0;
};

// Turns the products of a file around. Out: `sums`, up to slots + moments of them, and `terms`, up to three
// for each product. basic_place: where the basic moments stand, those after them follow from slot `slots` on.
// work: room for 4 numbers for each product, 6 for each moment, one for each slot and two, all 0.
constexpr Plan plan_products(const Times* times, int count, int basic, int moments, const int* basic_place,
                             int slots, Sum* sums, Term* terms, int* work) {
  int *last = work, *inner = last + moments, *made = inner + moments, *into = made + moments + 1,
      *order = into + moments + 1, *from = order + moments, *goes = from + count, *used = goes + 2 * count;
  const auto place = [&](int m) { return kBatch * (m < basic ? basic_place[m] : slots + m - basic); };
  for (int n = 0; n < count; ++n) {
    const Times& t = times[n];
    last[t.c] = n, inner[t.a] = inner[t.b] = 1;
    ++made[t.c + 1], ++into[t.a + 1];
    if (t.a != t.b) ++into[t.b + 1];
  }
  for (int m = 0; m < moments; ++m) made[m + 1] += made[m], into[m + 1] += into[m];
  // Sorted by counting; the beginnings are put back afterwards.
  for (int n = 0; n < count; ++n) {
    const Times& t = times[n];
    from[made[t.c]++] = n, goes[into[t.a]++] = n;
    if (t.a != t.b) goes[into[t.b]++] = n;
  }
  for (int m = moments; m > 0; --m) made[m] = made[m - 1], into[m] = into[m - 1];
  made[0] = into[0] = 0;
  // A moment is not written after it was read: in the order of their last products each needs only earlier
  // ones.
  int products = 0;
  for (int n = 0; n < count; ++n)
    if (last[times[n].c] == n) order[products++] = times[n].c;

  Plan plan;
  for (int i = 0; i < products; ++i) {
    const int m = order[i];
    for (int k = made[m]; k < made[m + 1]; ++k) {
      const Times& t = times[from[k]];
      terms[plan.terms++] = {t.factor, place(t.a), place(t.b), -1};
    }
    sums[plan.sums++] = {place(m), -1, 0, made[m + 1] - made[m]};
  }
  plan.products = plan.sums;
  for (int i = products - 1; i >= -basic; --i) {
    const int m = i >= 0 ? order[i] : basic + i;
    if (i >= 0 && !inner[m]) continue;  // its adjoint is its weight
    Sum sum{place(m), m, 0, 0};
    for (int constant = 1; constant >= 0; --constant)
      for (int k = into[m]; k < into[m + 1]; ++k) {
        const Times& t = times[goes[k]];
        if (inner[t.c] == constant) continue;
        const int factor = t.a == t.b ? 2 * t.factor : t.factor, other = place(t.a == m ? t.b : t.a);
        terms[plan.terms++] = {factor, other, constant ? 0 : place(t.c), constant ? t.c : -1};
        ++(constant ? sum.constants : sum.terms);
      }
    sums[plan.sums++] = sum;
  }
  // Nothing depends on what the kernel makes beyond the basic moments of the file.
  for (int m = 0; m < basic; ++m) used[basic_place[m]] = 1;
  for (int s = 0; s < slots; ++s)
    if (!used[s]) sums[plan.sums++] = {kBatch * s, -1, 0, 0};
  return plan;
}

struct Scalar {
  int place;
  double weight;
};

// One atom of a batch: its neighbours, and its part of the workspace.
template <class T>
struct View {
  int place, species, count, stride;
  const int *begin, *tag;
  T* rows;
};

template <class T>
struct Batch {
  int n;
  View<T> atom[kBatch];
  Places at;
  Target target;
  double *energy, *moments, *adjoint, *columns;
  T *coefficients, *tables;
};

template <class T>
using Run = void (*)(const Kernel::Impl&, const Batch<T>&);
using ProductsOf = void (*)(const Kernel::Impl&, double* moments, double* adjoint, double* energy);

// A kernel for one set of basic moments: all monomials up to rank[mu]; mus = 0 for the one steered by tables.
struct Selection {
  Run<double> run;
  Run<float> run_single;
  ProductsOf products;
  Filter filter;
  Search search;
  Put put;
  int copies, copies_single;  // of each radial coefficient
  int rank[5];
  int mus = 0;
  // Of a kernel with fixed ranks: how many sums it makes, with padding, how many slots these and what follows
  // from them take, and the slots of all monomials of all mu.
  int columns = 0, slots = 0;
  const int* slot_of = nullptr;
};

// The square of the cutoff in steps of the grid, widened by what rounding may do.
inline float grid_limit(const Places& at, double cutoff) {
  const double steps = cutoff / at.step * (1 + 5e-7) + 2;
  return static_cast<float>(steps * steps);
}

// Coefficients of q_mu in f_mu = (r_c - r)^2 q_mu(xi), (species, species, basis, mu, copy): of the powers of
// xi, or of the Chebyshev polynomials.
template <class T>
using Radial = Array<T>;  // by cache lines: no vector of copies lies on two of them

struct Kernel::Impl {
  Potential potential;
  std::vector<int> rank;  // highest degree of the moments of each mu that the kernel makes, -1 for none
  int top_rank = -1, sums = 0;
  // Moments and adjoints stand in slots: first the sums over neighbours as the kernel makes them, then those
  // basic moments that follow from these, then the products.
  int basic_slots = 0, slots = 0;
  bool chebyshev = false;
  Radial<double> radial;
  Radial<float> radial_single;
  Plan plan;
  std::vector<Sum> program;
  std::vector<Term> terms;
  std::vector<double> starts, factors;  // (sum), (term): with the weights
  std::vector<Scalar> scalars;
  std::vector<int> offset;  // of the monomials of each mu, for the kernel steered by tables
  // For the kernel steered by tables: monomial m = monomial parent[m] times component axis[m] of the unit
  // vector; each lower monomial l is the derivative of the monomials up[3 l + xyz], with that factor.
  std::vector<int> parent, axis, up;
  std::vector<double> factor;
  Selection selection;
  const char* isa = nullptr;
};

// The instruction set to use: the best of this processor, or what ARGYASE_MTP_ISA asks for.
const char* instruction_set();

// One definition for each instruction set, from mtp_simd.inc.
Selection select_baseline(const int* rank, int count, const Potential&);
Selection select_avx2(const int* rank, int count, const Potential&);
Selection select_avx512(const int* rank, int count, const Potential&);

}  // namespace argyase
