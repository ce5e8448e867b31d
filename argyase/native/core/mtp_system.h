// Energies and forces of a set of atoms: the kernel, over a neighbour list, on one or more threads.
#pragma once

#include <memory>
#include <vector>

#include "active_set.h"
#include "mtp_kernel.h"
#include "neighbour_list.h"
#include "repulsion.h"
#include "threads.h"

namespace argyase {

// What to compute besides energy and forces; null: not wanted.
struct Outputs {
  double* energies = nullptr;      // (centre)
  double* grades = nullptr;        // (centre), of the active set
  double* basis = nullptr;         // scalar basis functions, (centre, scalar)
  double* atom_virials = nullptr;  // -half of each pair's share to either atom, xx yy zz xy xz yz, (atom, 6)
};

class System {
 public:
  System(const Kernel& kernel, int threads);

  // A list of neighbours within the cutoff + skin, valid until an atom has moved by skin / 2.
  void build(int centres, int count, const double* x, const int* species, double skin);
  int centres() const { return list_.centres(); }
  // What is added to the potential, and what grades are measured by; null: nothing. Not owned.
  void set_repulsion(const Repulsion* repulsion) { repulsion_ = repulsion; }
  void set_active_set(const ActiveSet* active) { active_ = active; }

  // Energy of the centres, eV; adds to f (count, 3) the forces on all atoms. Same order of atoms as in
  // `build`.
  template <class T>
  double compute(const double* x, double* f, const Outputs& out);

 private:
  struct Worker {
    std::unique_ptr<Workspace> work;
    Neighbours neighbours[kBatch];
    Array<double> f, v;   // as in Target
    Array<double> basis;  // (scalar, lane)
    double energy = 0;
  };
  void place(const double* x, int parts);
  template <class T>
  void work(Worker& worker, int first, int last, const Outputs& out);

  const Kernel& kernel_;
  const Repulsion* repulsion_ = nullptr;
  const ActiveSet* active_ = nullptr;
  NeighbourList list_;
  Places places_;
  Array<double> x_;  // the numbers behind places_
  Array<int> grid_;
  std::vector<Worker> workers_;
  Threads threads_;
};

}  // namespace argyase
