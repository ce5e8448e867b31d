#include "pair_mtp.h"

#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
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
  if (narg != 1) error->all(FLERR, "Illegal pair_style mtp command: expected 'pair_style mtp FILE'");
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
  work_ = kernel_->workspace();
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
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairMTP::init_one(int, int) { return kernel_->cutoff(); }

double PairMTP::memory_usage() {
  return Pair::memory_usage() + sizeof(int) * (sorted_.capacity() + segment_.capacity());
}

// After LAMMPS has rebuilt its list: a copy of it in which the neighbours of an atom stand species by
// species.
void PairMTP::sort_neighbours() {
  const int kinds = kernel_->species_count();
  const int* type = atom->type;
  std::vector<int> count(kinds);
  sorted_.clear();
  segment_.resize(static_cast<size_t>(list->inum) * (kinds + 1));
  for (int ii = 0; ii < list->inum; ++ii) {
    const int i = list->ilist[ii], *j = list->firstneigh[i], n = list->numneigh[i];
    std::fill(count.begin(), count.end(), 0);
    for (int k = 0; k < n; ++k) ++count[species_[type[j[k] & NEIGHMASK]]];
    int* segment = &segment_[static_cast<size_t>(ii) * (kinds + 1)];
    segment[0] = static_cast<int>(sorted_.size());
    for (int s = 0; s < kinds; ++s) segment[s + 1] = segment[s] + count[s];
    sorted_.resize(segment[kinds]);
    std::copy(segment, segment + kinds, count.begin());
    for (int k = 0; k < n; ++k) {
      const int jj = j[k] & NEIGHMASK;
      sorted_[count[species_[type[jj]]]++] = jj;
    }
  }
}

void PairMTP::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  if (neighbor->ago == 0 ||
      segment_.size() != static_cast<size_t>(list->inum) * (kernel_->species_count() + 1))
    sort_neighbours();

  const int kinds = kernel_->species_count();
  const double cutoff2 = kernel_->cutoff() * kernel_->cutoff();
  double **x = atom->x, **f = atom->f;
  const int* type = atom->type;

  for (int first = 0; first < list->inum; first += argyase::kBatch) {
    const int n = std::min(argyase::kBatch, list->inum - first);
    int kind[argyase::kBatch];
    for (int b = 0; b < n; ++b) {
      const int i = list->ilist[first + b];
      const int* segment = &segment_[static_cast<size_t>(first + b) * (kinds + 1)];
      argyase::Neighbours<double>& nb = batch_[b];
      nb.reserve(segment[kinds] - segment[0], kinds);
      kind[b] = species_[type[i]];
      const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
      double *bx = nb.x.data(), *by = nb.y.data(), *bz = nb.z.data(), *br = nb.r2.data();
      int *tag = nb.tag.data(), m = 0;
      for (int s = 0; s < kinds; ++s) {
        nb.begin[s] = m;
        for (int k = segment[s]; k < segment[s + 1]; ++k) {
          const int j = sorted_[k];
          const double dx = x[j][0] - xi, dy = x[j][1] - yi, dz = x[j][2] - zi;
          const double r2 = dx * dx + dy * dy + dz * dz;
          // Written in any case, kept if within the cutoff: a branch here would be mispredicted every third
          // time.
          bx[m] = dx, by[m] = dy, bz[m] = dz, br[m] = r2, tag[m] = j;
          m += r2 < cutoff2;
        }
      }
      nb.begin[kinds] = m;
    }
    double energy[argyase::kBatch];
    kernel_->compute(*work_, n, kind, batch_, energy);

    for (int b = 0; b < n; ++b) {
      const int i = list->ilist[first + b];
      const argyase::Neighbours<double>& nb = batch_[b];
      double fx = 0, fy = 0, fz = 0;
      for (int m = 0; m < nb.begin[kinds]; ++m) {
        double* fj = f[nb.tag[m]];
        fx += nb.gx[m], fy += nb.gy[m], fz += nb.gz[m];
        fj[0] -= nb.gx[m], fj[1] -= nb.gy[m], fj[2] -= nb.gz[m];
      }
      f[i][0] += fx, f[i][1] += fy, f[i][2] += fz;
      if (eflag_global) eng_vdwl += energy[b];
      if (eflag_atom) eatom[i] += energy[b];
      if (vflag_atom)
        for (int m = 0; m < nb.begin[kinds]; ++m) {
          // Half of each pair's share to either atom: -(r_j - r_i) dE_i/d(r_j - r_i), as in v_tally_xyz.
          const double v[6] = {-nb.x[m] * nb.gx[m], -nb.y[m] * nb.gy[m], -nb.z[m] * nb.gz[m],
                               -nb.x[m] * nb.gy[m], -nb.x[m] * nb.gz[m], -nb.y[m] * nb.gz[m]};
          for (int c = 0; c < 6; ++c) {
            vatom[i][c] += 0.5 * v[c];
            vatom[nb.tag[m]][c] += 0.5 * v[c];
          }
        }
    }
  }
  if (vflag_fdotr) virial_fdotr_compute();
}
