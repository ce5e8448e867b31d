// pair_style mtp FILE: a Moment Tensor Potential in LAMMPS, over the kernel of argyase.
#ifndef ARGYASE_PAIR_MTP_H
#define ARGYASE_PAIR_MTP_H

#include <memory>
#include <string>
#include <vector>

#include "mtp_system.h"
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
  void* extract(const char*, int&) override;
  void* extract_peratom(const char*, int&);  // overrides one that LAMMPS has since the end of 2022

 private:
  void expect_all_types();
  void renew(int count);
  std::string read_file(const char* path);
  void coeff_repulsion(char** arg);
  void evaluate(int count, bool grade);

  std::unique_ptr<argyase::Kernel> kernel_;
  std::unique_ptr<argyase::System> system_;
  std::unique_ptr<argyase::Repulsion> repulsion_;
  std::unique_ptr<argyase::ActiveSet> active_;
  bool mixed_ = false;
  int threads_ = 0;           // 0: as many as LAMMPS was given
  std::vector<int> species_;  // of each LAMMPS type
  std::vector<int> types_;    // of each atom at the last rebuild
  std::vector<int> kinds_;    // and its species
  std::vector<char> asked_;   // (type, type): LAMMPS asked for the cutoff; empty when that has been checked
  std::vector<double> virials_;
  int grade_flag_ = 0;    // grades are wanted in the next step; fix pair sets it
  double grade_max_ = 0;  // largest of all ranks and of all steps that were graded
  std::vector<double> grades_;
};

}  // namespace LAMMPS_NS

#endif
