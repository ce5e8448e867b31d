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

// A term of a sum, factor M_a M_b or factor M_a adj_b, or, with b = -1, factor M_a.
struct Term {
  double factor;
  int a, b;
};

// M_moment or adj_moment: the sum of a weight and of terms that follow each other, those with b = -1 first.
struct Sum {
  int moment, constant_terms, terms;
  double weight;
};

struct Scalar {
  int moment;
  double weight;
};

// M[target] = M[lower] - M[xx] - M[yy], because z^2 = 1 - x^2 - y^2.
struct Fold {
  int target, lower, xx, yy;
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
  double *energy, *moments, *adjoint, *dense, *columns;
  T *coefficients, *tables;
};

template <class T>
using Run = void (*)(const Kernel::Impl&, const Batch<T>&);

// A kernel for one set of basic moments: all monomials up to rank[mu]; mus = 0 for the one steered by tables.
struct Selection {
  Run<double> run;
  Run<float> run_single;
  Filter filter;
  Search search;
  int copies, copies_single;  // of each radial coefficient
  int rank[5];
  int mus = 0;
};

// The square of the cutoff in steps of the grid, widened by what rounding may do.
inline float grid_limit(const Places& at, double cutoff) {
  const double steps = cutoff / at.step * (1 + 5e-7) + 2;
  return static_cast<float>(steps * steps);
}

// Coefficients of q_mu in f_mu = (r_c - r)^2 q_mu(xi), (species, species, basis, mu, copy): of the powers of
// xi, or of the Chebyshev polynomials.
template <class T>
using Radial = std::vector<T>;

struct Kernel::Impl {
  Potential potential;
  std::vector<int> rank;    // highest degree of the dense moments of each mu, -1 for none
  std::vector<int> offset;  // where the moments of a mu begin in the dense layout (mu, monomial)
  int dense = 0, top_rank = -1, basic = 0, moments = 0;
  std::vector<int> dense_of;  // dense place of each basic moment of the file
  bool chebyshev = false;
  Radial<double> radial;
  Radial<float> radial_single;
  // The moments that are products, and the adjoints of all that others are made of, in the order in which
  // each needs only those before it.
  std::vector<Sum> moment_sums, adjoint_sums;
  std::vector<Term> forward, backward;
  std::vector<Scalar> scalars;
  // The sums over neighbours that a kernel with fixed ranks makes: their dense places; those that follow from
  // them; what turns an adjoint into a component of the symmetric tensor, and that into one of its gradient.
  std::vector<int> sum_of;
  std::vector<Fold> folds;
  std::vector<double> tensor, degree;
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
Selection select_baseline(const int* rank, int count);
Selection select_avx2(const int* rank, int count);
Selection select_avx512(const int* rank, int count);

}  // namespace argyase
