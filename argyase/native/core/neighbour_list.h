// Which atoms are near which, by cells. Atoms get places of their own: species by species, cell by cell.
#pragma once

#include <cstddef>
#include <vector>

#include "mtp_kernel.h"
#include "threads.h"

namespace argyase {

class NeighbourList {
 public:
  // Neighbours within `reach` of the first `centres` of `count` atoms at x (3 coordinates each).
  void build(int centres, int count, const double* x, const int* species, int kinds, double reach, Near near,
             Threads& threads);

  int centres() const { return static_cast<int>(centre_.size()); }
  int places() const { return static_cast<int>(order_.size()); }
  // The caller's number of the atom at a place.
  int atom(int place) const { return order_[place]; }
  // Place of the k-th centre; neighbouring centres are near each other.
  int centre(int k) const { return centre_[k]; }
  // Places of the neighbours of the k-th centre of species s: neighbours(k)[i], segment(k)[s] <= i <
  // segment(k)[s + 1].
  const int* neighbours(int k) const { return neighbours_[k / share_].data(); }
  const int* segment(int k) const { return segment_.data() + static_cast<size_t>(k) * (kinds_ + 1); }

 private:
  void find(int first, int last, std::vector<int>& neighbours);

  int kinds_ = 0, share_ = 1;  // centres to a thread
  int cells_[3], steps_[3];
  double reach2_ = 0;
  Near near_ = nullptr;
  std::vector<std::vector<int>> neighbours_;  // of each thread
  std::vector<int> order_, centre_, segment_;
  std::vector<int> cell_, start_;
  std::vector<double> x_, y_, z_;
};

}  // namespace argyase
