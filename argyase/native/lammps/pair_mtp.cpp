#include "pair_mtp.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
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
  one_coeff = 0;  // more lines than one, if there is a repulsion
  manybody_flag = 1;
  unit_convert_flag = 0;
  // Shares of an atom's virial are halves of pairs, which is not the centroid form.
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairMTP::~PairMTP() {
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

// The bytes of a file, read by the first rank and sent to the others.
std::string PairMTP::read_file(const char* path) {
  std::string text;
  int size = -1;
  if (comm->me == 0) {
    if (std::FILE* file = std::fopen(path, "rb")) {
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
  if (size < 0) error->all(FLERR, "pair_style mtp: cannot read the file {}", path);
  text.resize(size);
  MPI_Bcast(text.data(), size, MPI_CHAR, 0, world);
  return text;
}

void PairMTP::settings(int narg, char** arg) {
  if (narg < 1)
    error->all(FLERR,
               "Illegal pair_style mtp command: expected 'pair_style mtp FILE [precision double|mixed] "
               "[threads N] [grade FILE]'");
  mixed_ = false, threads_ = 0;
  const char* grade = nullptr;
  for (int k = 1; k < narg; k += 2) {
    const std::string key = arg[k], value = k + 1 < narg ? arg[k + 1] : "";
    if (key == "precision" && (value == "double" || value == "mixed"))
      mixed_ = value == "mixed";
    else if (key == "threads" && !value.empty() && (threads_ = std::atoi(value.c_str())) > 0)
      continue;
    else if (key == "grade" && !value.empty())
      grade = arg[k + 1];
    else
      error->all(FLERR,
                 "pair_style mtp: '{} {}' after the file: expected 'precision double', 'precision mixed', "
                 "'threads N' or 'grade FILE'",
                 key, value);
  }
  const std::string text = read_file(arg[0]), active = grade ? read_file(grade) : "";

  std::string problem;
  system_.reset(), repulsion_.reset(), active_.reset();
  grade_flag_ = 0, grade_max_ = 0;
  try {
    const argyase::Potential potential = argyase::parse_mtp(text);
    kernel_ = std::make_unique<argyase::Kernel>(potential);
    if (grade) {
      active_ = std::make_unique<argyase::ActiveSet>(argyase::ActiveSet::parse(active));
      active_->check(potential);
    }
  } catch (const argyase::ParseError& e) {
    problem = std::string(arg[0]) + ", " + e.what();
  } catch (const argyase::ActiveSetError& e) {
    problem = std::string(grade) + ": " + e.what();
  }
  if (!problem.empty()) error->all(FLERR, "pair_style mtp: {}", problem);
}

void PairMTP::coeff(int narg, char** arg) {
  const int types = atom->ntypes, known = kernel_->species_count();
  if (narg == 7 && std::strcmp(arg[2], "repulsion") == 0) return coeff_repulsion(arg);
  if (narg < 2 || std::strcmp(arg[0], "*") != 0 || std::strcmp(arg[1], "*") != 0 ||
      (narg > 2 && narg != 2 + types))
    error->all(
        FLERR,
        "Illegal pair_coeff for mtp: expected 'pair_coeff * *', or that and the species number (from 0) of "
        "each of the {} atom types, or 'pair_coeff I J repulsion Z_I Z_J INNER OUTER'",
        types);
  species_.resize(types + 1);
  repulsion_.reset();
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

// A table of species, not of types: types of one species repel alike, by the last line that names one of
// them.
void PairMTP::coeff_repulsion(char** arg) {
  if (species_.empty())
    error->all(FLERR, "pair_coeff for mtp: 'pair_coeff * *' comes first, then lines with repulsion");
  int low[2], high[2];
  for (int side = 0; side < 2; ++side)
    utils::bounds(FLERR, arg[side], 1, atom->ntypes, low[side], high[side], error);
  double v[4];
  for (int k = 0; k < 4; ++k) v[k] = utils::numeric(FLERR, arg[3 + k], false, lmp);
  if (!repulsion_) repulsion_ = std::make_unique<argyase::Repulsion>(kernel_->species_count());
  std::string problem;
  try {
    for (int i = low[0]; i <= high[0]; ++i)
      for (int j = low[1]; j <= high[1]; ++j)
        repulsion_->set(species_[i], species_[j], v[0], v[1], v[2], v[3], kernel_->cutoff());
  } catch (const std::invalid_argument& e) {
    problem = e.what();
  }
  if (!problem.empty()) error->all(FLERR, "pair_coeff for mtp: {}", problem);
}

void PairMTP::init_style() {
  if (force->newton_pair == 0) error->all(FLERR, "Pair style mtp requires newton pair on");
  if (std::strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "Pair style mtp requires units metal (eV and A)");
  // A second pair_style mtp reads another file but leaves the species of the first.
  for (size_t t = 1; t < species_.size(); ++t)
    if (species_[t] >= kernel_->species_count())
      error->all(FLERR,
                 "pair_coeff for mtp: atom type {} is species {}, but the potential has the species 0 to {}: "
                 "repeat pair_coeff after pair_style",
                 t, species_[t], kernel_->species_count() - 1);
  // No list of LAMMPS is asked for: ours is made when LAMMPS would make its own.
  system_ = std::make_unique<argyase::System>(*kernel_, threads_ ? threads_ : comm->nthreads);
  system_->set_repulsion(repulsion_.get());
  system_->set_active_set(active_.get());
  types_.clear();
  asked_.assign(species_.size() * species_.size(), 0);
}

double PairMTP::init_one(int i, int j) {
  asked_[i * species_.size() + j] = 1;
  return kernel_->cutoff();
}

// Pair style hybrid asks for the cutoff of those pairs of types that are left to us.
void PairMTP::expect_all_types() {
  if (asked_.empty()) return;
  const int types = static_cast<int>(species_.size()) - 1;
  for (int i = 1; i <= types; ++i)
    for (int j = i; j <= types; ++j)
      if (!asked_[i * species_.size() + j])
        error->all(
            FLERR,
            "Pair style mtp: atom types {} and {} are left to another pair style, but the energy is of "
            "many bodies and needs all pairs: use pair_style hybrid/overlay",
            i, j);
  asked_.clear();
}

// Makes the neighbour list when LAMMPS makes its own, and when types have changed since (fix atom/swap).
void PairMTP::renew(int count) {
  const int* type = atom->type;
  const bool fresh = neighbor->ago != 0 && types_.size() == static_cast<size_t>(count) &&
                     system_->centres() == atom->nlocal &&
                     std::memcmp(types_.data(), type, sizeof(int) * types_.size()) == 0;
  if (fresh) return;
  if (neighbor->exclude)
    error->all(FLERR, "Pair style mtp does not work with neigh_modify exclude: its energy is of many bodies");
  expect_all_types();
  types_.assign(type, type + count);
  kinds_.resize(count);
  for (int i = 0; i < count; ++i) kinds_[i] = species_[type[i]];
  // LAMMPS renews when an atom is half a skin from where it was when LAMMPS renewed last; if that was earlier
  // than now, the atom may by then have moved by a whole skin.
  const double skin = (neighbor->ago == 0 ? 1 : 2) * neighbor->skin;
  system_->build(atom->nlocal, count, atom->x[0], kinds_.data(), skin);
}

void PairMTP::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  const int count = atom->nlocal + atom->nghost;
  const bool grade = active_ && grade_flag_;
  if (grade) grades_.assign(atom->nlocal + 1, 0.0);
  if (count > 0) evaluate(count, grade);
  if (grade) {
    const double own = *std::max_element(grades_.begin(), grades_.end());
    double all = 0;
    MPI_Allreduce(&own, &all, 1, MPI_DOUBLE, MPI_MAX, world);
    // The first forces of a run are those of the last step of the one before, which were graded there.
    if (!update->setupflag || update->ntimestep == update->beginstep) grade_max_ = std::max(grade_max_, all);
  }
}

void PairMTP::evaluate(int count, bool grade) {
  renew(count);
  argyase::Outputs out;
  if (eflag_atom) out.energies = eatom;
  if (grade) out.grades = grades_.data();
  if (vflag_atom) {
    out.atom_virials = vatom[0];
  } else if (vflag_global) {
    // The sum is wanted pair by pair, not as F dot r: hybrid with a style that has no F dot r.
    virials_.assign(6 * static_cast<size_t>(count), 0.0);
    out.atom_virials = virials_.data();
  }
  const double* x = atom->x[0];
  double* f = atom->f[0];
  const double energy = mixed_ ? system_->compute<float>(x, f, out) : system_->compute<double>(x, f, out);
  if (eflag_global) eng_vdwl += energy;
  if (vflag_global)
    for (int i = 0; i < 6 * count; ++i) virial[i % 6] += out.atom_virials[i];
  if (vflag_fdotr) virial_fdotr_compute();
}

void* PairMTP::extract(const char* name, int& dim) {
  dim = 0;
  if (active_ && std::strcmp(name, "grade_flag") == 0) return &grade_flag_;
  if (active_ && std::strcmp(name, "grade_max") == 0) return &grade_max_;
  return nullptr;
}

void* PairMTP::extract_peratom(const char* name, int& columns) {
  columns = 0;
  if (!active_ || std::strcmp(name, "grade") != 0) return nullptr;
  if (grades_.empty()) grades_.resize(1);
  return grades_.data();
}
