// Energy of an atom and its derivative with respect to its neighbours, many atoms at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "mtp_potential.h"

namespace argyase {

// Neighbours of one atom within the cutoff, sorted by species. Filled by the caller, padded by the kernel.
struct Neighbours {
  // Room for the padding of every species block to the widest vector.
  static constexpr int kPad = 8;

  void reserve(int count, int species);

  std::vector<double> x, y, z, r2;  // r_j - r_i, A; |r_j - r_i|^2
  std::vector<int> tag;             // the caller's own number of the neighbour; -1 marks padding
  std::vector<int> begin;           // (species + 1): where the block of a species begins, multiples of kPad
  std::vector<int> end;             // (species): where it ends, without padding
  std::vector<double> gx, gy, gz;   // out: dE_i / d(r_j - r_i), eV/A
};

constexpr int kBatch = 8;  // atoms whose tensor products are computed together, one in each lane

class Workspace;

// A potential made ready for evaluation. Immutable: one can serve many threads, each with its own Workspace.
class Kernel {
 public:
  explicit Kernel(const Potential& potential);
  ~Kernel();
  Kernel(Kernel&&) noexcept;

  double cutoff() const;
  int species_count() const;
  // Instruction set in use: "avx512", "avx2" or "baseline". The variable ARGYASE_MTP_ISA forces a lower one.
  const char* isa() const;

  std::unique_ptr<Workspace> workspace() const;

  // For n <= kBatch atoms: species[k] and neighbours[k] in; energy[k] (eV) and neighbours[k].g out.
  void compute(Workspace& work, int n, const int* species, Neighbours* neighbours, double* energy) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

class Workspace {
 public:
  std::vector<double> radial;   // per atom of the batch: f_mu and f_mu' of each neighbour
  std::vector<double> moments;  // (moment, lane)
  std::vector<double> adjoint;  // (moment, lane)
  std::vector<double> row;      // dense moments of one atom
  std::vector<double> tables;   // monomials, weights and sums of the kernel that is steered by tables
};

}  // namespace argyase
