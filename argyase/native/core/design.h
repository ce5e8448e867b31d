// What a potential is fitted by: energies, forces and virials of frames, and their derivatives with respect
// to all coefficients.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "mtp_kernel.h"
#include "threads.h"

namespace argyase {

// Frames and the neighbours of their atoms.
class Frames {
 public:
  explicit Frames(const Kernel& kernel) : cutoff_(kernel.cutoff()), search_(kernel.search()) {}

  struct Frame {
    std::vector<int> species;      // (atom)
    std::vector<long> begin;       // (atom + 1): the first neighbour of each
    std::vector<int> neighbour;    // atom that a neighbour is, or is an image of
    std::vector<double> distance;  // r_j - r_i, A, (neighbour, 3)
    int atoms() const { return static_cast<int>(species.size()); }
    int most_neighbours() const;
  };

  // Throws std::invalid_argument if the cell has no volume.
  void add(int atoms, const double* x, const int* species, const double* cell, const bool* periodic);
  int count() const { return static_cast<int>(frames_.size()); }
  double cutoff() const { return cutoff_; }
  const Frame& operator[](int n) const { return frames_[n]; }

 private:
  double cutoff_;
  Search search_;
  std::vector<Frame> frames_;
};

// Rows of the design matrix of a frame: energy, eV; forces, eV/A, atom by atom; virial dE/dstrain, eV, xx yy
// zz yz xz xy. Columns: derivatives with respect to the coefficients of the species and of the scalar basis
// functions, of which the energy is a linear function, then to those of the radial functions, (species,
// species, mu, basis).
class Design {
 public:
  explicit Design(const Potential& potential);
  ~Design();

  static int rows(int atoms) { return 3 * atoms + 7; }
  int linear_columns() const;
  int radial_columns() const;
  // Room that rows need behind the last column: vectors run on into it.
  static constexpr int padding = 16;

  // Rows of the frames first ... last - 1, each `stride` numbers after the one before, times its weight.
  // Species of the frames must be those of the potential.
  void compute(const Frames& frames, int first, int last, bool radial, const double* weights, double* out,
               long stride, Threads& threads) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace argyase
