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

// Where atoms stand, four numbers a place, the fourth 0. The place number `count` is farther
// than the cutoff from all others: vectors of neighbours are filled up with it.
struct Places {
  int count;
  const double* x;  // A
  const int* grid;  // the same in whole `step`s from a common origin
  double step;      // A
};

// Whoever reads or writes a list by vectors goes on for less than this behind its end.
constexpr int kOverrun = 16;

// The neighbours of the atom at `place`.
struct Neighbours {
  void reserve(int count, int species) {
    if (tag.size() < static_cast<size_t>(count) + kOverrun || begin.size() <= static_cast<size_t>(species))
      grow(count, species);
  }
  void grow(int count, int species);

  int place, species;
  std::vector<int> tag;    // 4 times their places, species by species; room for kOverrun more
  std::vector<int> begin;  // (species + 1): the first of each species; the last is their number
  std::vector<int> marks;  // for `Filter`
};

// Of the neighbours of nb.place in the list, those of species s from segment[s] to segment[s + 1], the ones
// within the cutoff (and some that are beyond it by less than 1e-6 of it); their number. The list holds 4
// times their places, and is filled up with the far place to whole eights.
using Filter = int (*)(const Places& at, const int* list, const int* segment, int kinds, double cutoff,
                       Neighbours& nb);
// Atoms in the order of their places: coordinates, A from a common origin, and species. Readable for kOverrun
// more.
struct Sorted {
  const float *x, *y, *z;
  const int* kind;
};
struct Range {
  int first, last;
};
// Writes to `out` 4 times the places in the ranges that are nearer to `self` than the root of reach2, species
// by species: those of species s from segment[s] to segment[s + 1], counted from `out`; returns their number.
// `marks`, `hits` and `hit_kinds` have room for all places in the ranges, and kOverrun more for each range.
using Search = int (*)(const Sorted& sorted, const Range* ranges, int count, int self, float reach2,
                       int kinds, int* marks, int* hits, int* hit_kinds, int* out, int* segment);

// Writes positions to their places: of the atoms atom[first] ... atom[last - 1], x in A (3 numbers each), to
// rows of four, and to rows of the grid, `per` steps to 1 A from `origin`, rounded towards it.
using Put = void (*)(const double* x, const int* atom, int first, int last, const double* origin, double per,
                     double* to, int* grid);

// What is added to: forces, eV/A, and half of each pair's virial for either atom, -dE/d(r_j - r_i) (r_j -
// r_i), eV.
struct Target {
  double* f;            // (place, 4)
  double* v = nullptr;  // (place, 8): xx yy zz 0 xy xz yz 0; null: not wanted
};

constexpr int kBatch = 4;  // atoms whose tensor products are computed together, one in each lane

class Workspace;
class Repulsion;

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
  Filter filter() const;
  Search search() const;
  Put put() const;

  // For n <= kBatch atoms and their neighbours: the energy of each, eV, out; forces and virials added to the
  // target. With float, the work on each neighbour is done in single precision, the tensor products and all
  // sums of forces in double. basis: if given, the scalar basis functions, (scalar, kBatch). repulsion: if
  // given, added.
  template <class T>
  void compute(Workspace& work, int n, Neighbours* neighbours, const Places& at, double* energy,
               const Target& target, double* basis = nullptr, const Repulsion* repulsion = nullptr) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

class Workspace {
 public:
  Array<double> rows;     // per atom of the batch: unit vector, 1/r, r, f_mu and f_mu' of each neighbour
  Array<double> moments;  // (slot, lane)
  Array<double> adjoint;  // (slot, lane)
  Array<double> columns;  // (lane, sum): the sums over neighbours of each atom
  Array<double> tables;   // monomials, weights and sums of the kernel that is steered by tables
  Array<double> coefficients;
};

}  // namespace argyase
