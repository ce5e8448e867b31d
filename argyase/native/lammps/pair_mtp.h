// pair_style mtp FILE: a Moment Tensor Potential in LAMMPS, over the kernel of argyase.
#ifndef ARGYASE_PAIR_MTP_H
#define ARGYASE_PAIR_MTP_H

#include <memory>
#include <vector>

#include "mtp_kernel.h"
#include "pair.h"

namespace LAMMPS_NS {

class PairMTP : public Pair {
 public:
  explicit PairMTP(class LAMMPS*);
  ~PairMTP() override;

  void compute(int, int) override;
  void settings(int, char**) override;
  void coeff(int, char**) override;
  void init_style() override;
  double init_one(int, int) override;
  double memory_usage() override;

 private:
  void sort_neighbours();

  std::unique_ptr<argyase::Kernel> kernel_;
  std::unique_ptr<argyase::Workspace> work_;
  std::vector<int> species_;           // of each LAMMPS type
  std::vector<int> sorted_, segment_;  // neighbours by species; (atom, species + 1) offsets into them
  argyase::Neighbours<double> batch_[argyase::kBatch];
};

}  // namespace LAMMPS_NS

#endif
