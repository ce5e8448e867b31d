// Repulsion of nuclei that are nearer to each other than any two atoms of the training data.
#pragma once

#include <vector>

#include "mtp_kernel.h"

namespace argyase {

// e^2 / (4 pi eps0), eV A. To the digits of LAMMPS' units metal, so that pair_style zbl beside an MTP is the
// same function; CODATA 2018 has 14.39964548.
constexpr double kCoulomb = 14.399645;

// phi(r) = S(r) k Z_i Z_j / r sum_n c_n exp(-d_n r / a), a = 0.46850 A / (Z_i^0.23 + Z_j^0.23): the universal
// screening of J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter (1985).
// S = 1 - t^3 (10 - 15 t + 6 t^2) with t = (r - inner) / (outer - inner), 1 below inner and 0 from outer on:
// energy, force and curvature are continuous.
class Repulsion {
 public:
  explicit Repulsion(int species_count);

  // Switches it on between the species i and j. Throws std::invalid_argument unless the charges are positive
  // and 0 < inner < outer <= cutoff.
  void set(int i, int j, double z_i, double z_j, double inner, double outer, double cutoff);

  // phi, eV, and its derivative, eV/A, at a distance r > 0.
  struct Value {
    double energy, slope;
  };
  Value at(int i, int j, double r) const;

  // Half of phi of each neighbour that is near enough: returns the sum, and adds forces and virials to the
  // target. The other half comes when the neighbour is the centre. distances: no farther than the
  // cutoff, and readable for a vector more.
  template <class T>
  double add(const Neighbours& nb, const T* distances, const Places& at, const Target& target) const;

 private:
  struct Pair {
    double strength = 0, per_length = 0, inner = 0, outer = 0;
  };
  static Value value(const Pair& pair, double r);

  int kinds_;
  std::vector<Pair> pairs_;       // (species, species)
  std::vector<double> farthest_;  // largest outer of any pair of a species
};

}  // namespace argyase
