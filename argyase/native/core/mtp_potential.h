// A Moment Tensor Potential as its .mtp file states it, and the reader of that format.
// No Python, no LAMMPS, no I/O: text in, numbers out.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace argyase {

struct ParseError : std::runtime_error {
  ParseError(int line, const std::string& reason)
      : std::runtime_error("line " + std::to_string(line) + ": " + reason) {}
};

struct Potential {
  std::string version, potential_name, potential_tag, radial_basis_type;
  double scaling = 1.0;
  double min_dist = 0.0, max_dist = 0.0;
  int species_count = 0, radial_basis_size = 0, radial_funcs_count = 0;
  int alpha_moments_count = 0;
  std::vector<int> species_types;               // the file's numbers of the species, rising
  std::vector<double> radial_coeffs;            // (species, species, radial function, basis function)
  std::vector<std::array<int, 4>> index_basic;  // mu, nx, ny, nz
  std::vector<std::array<int, 4>> index_times;  // moment a, moment b, factor, moment c: c += factor a b
  std::vector<int> moment_mapping;              // moments that are scalar basis functions
  std::vector<double> species_coeffs, moment_coeffs;
};

// Reads the text of an .mtp file, or of an .almtp file, whose active set is left alone. Throws ParseError for
// whatever is not a complete, consistent potential; with `untrained`, coefficients that the file lacks are
// left empty, and species_count 0.
Potential parse_mtp(std::string_view text, bool untrained = false);

}  // namespace argyase
