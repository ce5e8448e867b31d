#include "pair_mtp.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;

PairMTP::PairMTP(LAMMPS* lmp) : Pair(lmp) {
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  unit_convert_flag = 0;
}

PairMTP::~PairMTP() {
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

// The file is read by the first rank and sent to the others.
void PairMTP::settings(int narg, char** arg) {
  if (narg < 1)
    error->all(FLERR,
               "Illegal pair_style mtp command: expected 'pair_style mtp FILE [precision double|mixed] "
               "[threads N]'");
  mixed_ = false, threads_ = 0;
  for (int k = 1; k < narg; k += 2) {
    const std::string key = arg[k], value = k + 1 < narg ? arg[k + 1] : "";
    if (key == "precision" && (value == "double" || value == "mixed"))
      mixed_ = value == "mixed";
    else if (key == "threads" && !value.empty() && (threads_ = std::atoi(value.c_str())) > 0)
      continue;
    else
      error->all(FLERR,
                 "pair_style mtp: '{} {}' after the file: expected 'precision double', 'precision mixed' or "
                 "'threads N'",
                 key, value);
  }
  std::string text;
  int size = -1;
  if (comm->me == 0) {
    if (std::FILE* file = std::fopen(arg[0], "rb")) {
      char part[65536];
      size_t got;
      while ((got = std::fread(part, 1, sizeof part, file)) > 0 && text.size() < (1u << 30))
        text.append(part, got);
      const bool broken = std::ferror(file);
      std::fclose(file);
      if (!broken && text.size() < (1u << 30)) size = static_cast<int>(text.size());
    }
  }
  MPI_Bcast(&size, 1, MPI_INT, 0, world);
  if (size < 0) error->all(FLERR, "pair_style mtp: cannot read the file {}", arg[0]);
  text.resize(size);
  MPI_Bcast(text.data(), size, MPI_CHAR, 0, world);

  std::string problem;
  try {
    kernel_ = std::make_unique<argyase::Kernel>(argyase::parse_mtp(text));
  } catch (const argyase::ParseError& e) {
    problem = e.what();
  }
  if (!problem.empty()) error->all(FLERR, "pair_style mtp: {}, {}", arg[0], problem);
  system_.reset();
}

void PairMTP::coeff(int narg, char** arg) {
  const int types = atom->ntypes, known = kernel_->species_count();
  if (narg < 2 || std::strcmp(arg[0], "*") != 0 || std::strcmp(arg[1], "*") != 0 ||
      (narg > 2 && narg != 2 + types))
    error->all(
        FLERR,
        "Illegal pair_coeff for mtp: expected 'pair_coeff * *', or that and the species number (from 0) of "
        "each of the {} atom types",
        types);
  species_.resize(types + 1);
  for (int t = 1; t <= types; ++t) {
    const int s = narg > 2 ? utils::inumeric(FLERR, arg[1 + t], false, lmp) : t - 1;
    if (s < 0 || s >= known)
      error->all(
          FLERR,
          "pair_coeff for mtp: atom type {} would be species {}, but the potential has the species 0 to {}",
          t, s, known - 1);
    species_[t] = s;
  }
  if (!allocated) {
    memory->create(setflag, types + 1, types + 1, "pair:setflag");
    memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
    allocated = 1;
  }
  for (int i = 1; i <= types; ++i)
    for (int j = 1; j <= types; ++j) setflag[i][j] = i <= j;
}

void PairMTP::init_style() {
  if (force->newton_pair == 0) error->all(FLERR, "Pair style mtp requires newton pair on");
  if (std::strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "Pair style mtp requires units metal (eV and A)");
  // No list of LAMMPS is asked for: ours is made when LAMMPS would make its own.
  system_ = std::make_unique<argyase::System>(*kernel_, threads_ ? threads_ : comm->nthreads);
  kinds_.clear();
}

double PairMTP::init_one(int, int) { return kernel_->cutoff(); }

void PairMTP::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  const int count = atom->nlocal + atom->nghost;
  if (count == 0) return;
  const double* x = atom->x[0];
  if (neighbor->ago == 0 || kinds_.size() != static_cast<size_t>(count) ||
      system_->centres() != atom->nlocal) {
    if (neighbor->exclude)
      error->all(FLERR,
                 "Pair style mtp does not work with neigh_modify exclude: its energy is of many bodies");
    kinds_.resize(count);
    for (int i = 0; i < count; ++i) kinds_[i] = species_[atom->type[i]];
    system_->build(atom->nlocal, count, x, kinds_.data(), neighbor->skin);
  }
  argyase::Outputs out;
  if (eflag_atom) out.energies = eatom;
  if (vflag_atom) out.atom_virials = vatom[0];
  double* f = atom->f[0];
  const double energy = mixed_ ? system_->compute<float>(x, f, out) : system_->compute<double>(x, f, out);
  if (eflag_global) eng_vdwl += energy;
  if (vflag_fdotr) virial_fdotr_compute();
}
