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

struct Product {
  int a, b, c;
  double factor;
};

struct Scalar {
  int moment;
  double weight;
};

// One atom of a batch: raw pointers into its Neighbours, and its part of the workspace.
struct View {
  int species, stride;
  const int *begin, *end;
  const double *x, *y, *z, *r2;
  double *gx, *gy, *gz, *scratch;
};

struct Batch {
  int n;
  View atom[kBatch];
  double *energy, *moments, *adjoint, *row, *tables;
};

using Run = void (*)(const Kernel::Impl&, const Batch&);

// A kernel for one set of basic moments: all monomials up to rank[mu]; mus = 0 for the one steered by tables.
struct Selection {
  Run run;
  int rank[5];
  int mus = 0;
};

struct Kernel::Impl {
  Potential potential;
  std::vector<int> rank;    // highest degree of the dense moments of each mu, -1 for none
  std::vector<int> offset;  // where the moments of a mu begin in the dense layout (mu, monomial)
  int dense = 0, top_rank = -1, basic = 0, moments = 0;
  std::vector<int> dense_of;   // dense place of each basic moment of the file
  std::vector<double> radial;  // (species, species, mu, basis), times scaling
  std::vector<Product> products;
  std::vector<Scalar> scalars;
  // For the kernel steered by tables: monomial m = monomial parent[m] times component axis[m] of the unit
  // vector; each lower monomial l is the derivative of the monomials up[3 l + xyz], with that factor.
  std::vector<int> parent, axis, up;
  std::vector<double> factor;
  Run run = nullptr;
  const char* isa = nullptr;
};

// One definition for each instruction set, from mtp_simd.inc.
Selection select_baseline(const int* rank, int count);
Selection select_avx2(const int* rank, int count);
Selection select_avx512(const int* rank, int count);

}  // namespace argyase
