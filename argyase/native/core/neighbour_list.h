// Which atoms are near which, by cells. Atoms get places of their own: cell by cell.
#pragma once

#include <cstddef>
#include <vector>

#include "mtp_kernel.h"
#include "threads.h"

namespace argyase {

// The least and the greatest coordinates (xyz) of so many atoms; zero of none.
void extent(int count, const double* x, double* low, double* high);

class NeighbourList {
 public:
  // Neighbours within `reach` of the first `centres` of `count` atoms at x (3 coordinates each).
  void build(int centres, int count, const double* x, const int* species, int kinds, double reach,
             Search search, Threads& threads);

  int centres() const { return static_cast<int>(centre_.size()); }
  int places() const { return static_cast<int>(order_.size()); }
  // The caller's number of the atom at a place.
  int atom(int place) const { return order_[place]; }
  const int* atoms() const { return order_.data(); }
  int species(int place) const { return kind_[place]; }
  // Place of the k-th centre; neighbouring centres are near each other.
  int centre(int k) const { return centre_[k]; }
  // 4 times the places of the neighbours of the k-th centre of species s: neighbours(k)[i], segment(k)[s] <=
  // i < segment(k)[s + 1]; filled up with those of the place behind the last one to whole eights.
  const int* neighbours(int k) const { return found_[k / share_].list.data() + start_of_[k]; }
  const int* segment(int k) const { return segment_.data() + static_cast<size_t>(k) * (kinds_ + 1); }

 private:
  // Of each thread.
  struct Found {
    std::vector<int> list, marks, hits, hit_kinds;
  };
  void find(int first, int last, Found& found);

  int kinds_ = 0, share_ = 1;  // centres to a thread
  int cells_[3];
  double size_[3], reach_ = 0, slack_ = 0;
  Search search_ = nullptr;
  std::vector<Found> found_;
  std::vector<int> order_, centre_, segment_, kind_, cell_, start_, next_;
  std::vector<size_t> start_of_;
  std::vector<float> x_, y_, z_;
};

}  // namespace argyase
