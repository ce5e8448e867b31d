// How far an atom is from those that a potential was trained on: the extrapolation grade.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "mtp_kernel.h"

namespace argyase {

// The bytes are not an active set, it belongs to another potential, or it is singular.
struct ActiveSetError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Hash of everything that the scalar basis functions of a potential depend on.
std::uint64_t fingerprint(const Potential& potential);

// The rows b = (1 at the atom's species, else 0; scalar basis functions) of m = species + scalars atoms,
// chosen so that |det| is as large as it can be. The grade of an atom is max_j |(b A^-1)_j|: above 1 it is
// outside of what they span. E. V. Podryabinkin, A. V. Shapeev, Comput. Mater. Sci. 140, 171 (2017), on
// neighbourhoods.
class ActiveSet {
 public:
  // rows: (m, m) with m = size, row after row. Throws ActiveSetError if they have no inverse.
  ActiveSet(std::uint64_t fingerprint, int species_count, int size, std::vector<double> rows);

  // A file: the line "argyase active set", then little-endian: version, m and number of species (32 bits
  // each), fingerprint and hash of all the rest (64 bits each), m x m doubles.
  static ActiveSet parse(std::string_view bytes);
  std::string format() const;

  // Throws ActiveSetError if it was not made for this potential.
  void check(const Potential& potential) const;

  std::uint64_t fingerprint() const { return fingerprint_; }
  int size() const { return size_; }
  int species_count() const { return kinds_; }
  const std::vector<double>& rows() const { return rows_; }

  // Grades of n <= kBatch atoms from the basis functions that Kernel::compute gave; infinite where these are
  // not finite.
  void grades(int n, const int* species, const double* basis, double* out) const;

 private:
  std::uint64_t fingerprint_;
  int kinds_, size_;
  std::vector<double> rows_;
  Array<double> inverse_;  // (panel of columns, row, column of the panel)
};

}  // namespace argyase
