// Energy of an atom and its derivative with respect to its neighbours, many atoms at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "mtp_potential.h"

namespace argyase {

constexpr int kLine = 64;  // bytes: a cache line, and the widest vector

template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  explicit Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(kLine))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(kLine)); }
  bool operator==(const Aligned&) const { return true; }
};
template <class T>
using Array = std::vector<T, Aligned<T>>;

// Neighbours of one atom within the cutoff, sorted by species. Filled by the caller; T is the type of the
// arithmetic, double or float.
template <class T>
struct Neighbours {
  // Room behind the last neighbour that the kernel fills with padding: less than two of the widest vectors.
  static constexpr int kPad = 2 * kLine / sizeof(T);

  void reserve(int count, int species);

  Array<T> x, y, z, r2;    // r_j - r_i, A; |r_j - r_i|^2
  std::vector<int> tag;    // the caller's own number of the neighbour
  std::vector<int> begin;  // (species + 1): where the neighbours of a species begin; the last is their number
  Array<T> gx, gy, gz;     // out: dE_i / d(r_j - r_i), eV/A
};

// Puts the neighbours list[0 ... count - 1] that are within the cutoff of the atom at `centre` behind the
// first m of nb; their new number. x: four numbers a place. `list` is readable, and nb has room, for kOverrun
// more.
constexpr int kOverrun = 8;
template <class T>
using Pack = int (*)(const double* x, const int* list, int count, const double* centre, double cutoff2,
                     Neighbours<T>& nb, int m);
// Takes the derivatives g of the neighbours nb of the atom at `place` from its forces: f (four numbers a
// place) of a neighbour minus g, of the atom plus the sum of all.
template <class T>
using Scatter = void (*)(const Neighbours<T>& nb, int count, int place, double* f);
// Appends to `out` which of the places first ... last - 1 are nearer than the root of reach2, but not `self`;
// how many these are. Coordinates are readable, and `out` has room, for kOverrun more.
using Near = int (*)(const double* x, const double* y, const double* z, int first, int last, int self,
                     double reach2, int* out);

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
  int scalar_count() const;
  // Instruction set in use: "avx512", "avx2" or "baseline". The variable ARGYASE_MTP_ISA forces a lower one.
  const char* isa() const;

  std::unique_ptr<Workspace> workspace() const;
  template <class T>
  Pack<T> pack() const;
  template <class T>
  Scatter<T> scatter() const;
  Near near() const;

  // For n <= kBatch atoms: species[k] and neighbours[k] in; energy[k] (eV) and neighbours[k].g out. With
  // float, the work on each neighbour is done in single precision, the tensor products and energies in
  // double. basis: if given, the scalar basis functions, (scalar, kBatch).
  template <class T>
  void compute(Workspace& work, int n, const int* species, Neighbours<T>* neighbours, double* energy,
               double* basis = nullptr) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

class Workspace {
 public:
  Array<double> rows;     // per atom of the batch: unit vector, 1/r, f_mu and f_mu' of each neighbour
  Array<double> moments;  // (moment, lane)
  Array<double> adjoint;  // (moment, lane)
  Array<double> dense;    // (monomial, lane): dense moments, then their adjoints
  Array<double> tables;   // monomials, weights and sums of the kernel that is steered by tables
  Array<double> coefficients;
};

}  // namespace argyase
