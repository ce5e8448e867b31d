// What the code of all instruction sets shares for the rows of the design matrix. Private to core/.
#pragma once

#include "design.h"
#include "mtp_impl.h"

namespace argyase {

// Columns that are worked on together: vectors of them stay in the cache while the products are gone through.
constexpr int kLanes = 32;

// The tables of a potential.
struct Design::Impl {
  int species, mus, basis, basics, moments, scalars, products, rank;
  double cutoff, nearest, scaling;
  std::vector<int> mu, monomial;          // of each basic moment
  std::vector<int> parent, axis;          // monomial m = monomial parent[m] times component axis[m]
  std::vector<std::array<int, 4>> times;  // moment a, moment b, factor, moment c: c += factor a b
  std::vector<int> scalar_of;             // moments that are scalar basis functions
  std::vector<double> radial, linear;     // coefficients: (species, species, mu, basis), of the scalars
  void (*rows)(const Impl&, const Frames::Frame&, bool radial, double* out, long stride, Array<double>& room);
  size_t room(int neighbours) const;  // numbers that `rows` works in
  int radial_of_atom() const { return species * mus * basis; }
};

// One definition for each instruction set, from design_simd.inc.
#define ARGYASE_DESIGN_ROWS(isa)                                                                           \
  void design_rows_##isa(const Design::Impl&, const Frames::Frame&, bool radial, double* out, long stride, \
                         Array<double>& room);
ARGYASE_DESIGN_ROWS(baseline)
ARGYASE_DESIGN_ROWS(avx2)
ARGYASE_DESIGN_ROWS(avx512)
#undef ARGYASE_DESIGN_ROWS

}  // namespace argyase
