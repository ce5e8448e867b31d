// What LAMMPS looks for when it loads the plugin. LAMMPS takes any plugin, also one that was compiled for
// other classes, data sizes or another MPI than its own, and then crashes or computes nonsense: that is found
// out here, with nothing but C functions, before a member of a class is used.
#include <cstdlib>
#include <cstring>
#include <string>

#include "error.h"
#include "lammps.h"
#include "pair_mtp.h"
using namespace LAMMPS_NS;

// Of LAMMPS' C library; an executable need not have them.
extern "C" {
int lammps_version(void* lmp) __attribute__((weak));
int lammps_extract_setting(void* lmp, const char* keyword) __attribute__((weak));
}
#ifdef OMPI_MAJOR_VERSION
#define ARGYASE_MPI "Open MPI"
#elif defined(MPICH_VERSION)
#define ARGYASE_MPI "MPICH"
#endif
#ifdef ARGYASE_MPI
#pragma weak MPI_Get_library_version
#endif

namespace {

// Not every LAMMPS installs lammpsplugin.h; this is its struct, the same since 2021.
struct Plugin {
  const char *version, *style, *name, *info, *author;
  union {
    void* (*v1)(LAMMPS*);
    void* (*v2)(LAMMPS*, int, char**);
  } creator;
  void* handle;
};
using Register = void (*)(void*, void*);

void* create(LAMMPS* lmp) { return new PairMTP(lmp); }

const std::string kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";

// "22 Jul 2025" as 20250722; 0 if it is nothing of the kind.
int number(const std::string& date) {
  const size_t month = date.find_first_of(' ') + 1, year = date.find_last_of(' ') + 1;
  const size_t at = kMonths.find(date.substr(month, 3));
  if (month == 0 || year <= month || at == std::string::npos) return 0;
  return std::atoi(date.c_str() + year) * 10000 + static_cast<int>(at / 3 + 1) * 100 +
         std::atoi(date.c_str());
}

std::string date(int number) {
  const int month = number / 100 % 100;
  if (month < 1 || month > 12) return std::to_string(number);
  return std::to_string(number % 100) + " " + kMonths.substr(3 * (month - 1), 3) + " " +
         std::to_string(number / 10000);
}

// What keeps this plugin from working in the LAMMPS that loads it; empty if nothing does. Old Python modules
// of LAMMPS show the first 100 characters of an error: they must do.
std::string mismatch(LAMMPS* lmp) {
  const std::string remedy = ": use argyase plugin build --lammps DIR";
  // An executable without the C library: the member, which has not moved since 2021.
  const int theirs = lammps_version ? lammps_version(lmp) : number(lmp->version);
  if (theirs != number(ARGYASE_LAMMPS_VERSION))
    return "mtp plugin for LAMMPS " ARGYASE_LAMMPS_VERSION ", not " + date(theirs) + remedy;
  if (lammps_extract_setting) {
    const auto bits = [&](const char* name) { return 8 * lammps_extract_setting(lmp, name); };
    const auto sizes = [](int tag, int big) { return std::to_string(tag) + "/" + std::to_string(big); };
    const int tag = bits("tagint"), big = bits("bigint");
    if (tag != 8 * static_cast<int>(sizeof(tagint)) || big != 8 * static_cast<int>(sizeof(bigint)))
      return "mtp plugin for integers of " + sizes(8 * sizeof(tagint), 8 * sizeof(bigint)) + " bits, not " +
             sizes(tag, big) + remedy + " --bigint (32/64 is smallbig, 64/64 bigbig)";
  }
#ifdef ARGYASE_MPI
  // Handles are numbers in MPICH and its kin (Intel, Cray, MVAPICH), pointers in Open MPI, nothing in the
  // stubs.
  if (MPI_Get_library_version) {
    char name[MPI_MAX_LIBRARY_VERSION_STRING + 8192] = "";  // the other MPI may want more room
    int length = 0;
    MPI_Get_library_version(name, &length);
    const bool theirs_open = std::strstr(name, "Open MPI"), ours_open = ARGYASE_MPI[0] == 'O';
    if (theirs_open != ours_open || std::strstr(name, "STUBS"))
      return "mtp plugin for " ARGYASE_MPI ", not " + std::string(name, std::strcspn(name, ",:\n")) + remedy +
             " with --cxx or --mpi";
  }
#endif
  return "";
}

}  // namespace

extern "C" void lammpsplugin_init(void* lmp, void* handle, void* regfunc) {
  const std::string problem = mismatch(static_cast<LAMMPS*>(lmp));
  if (!problem.empty()) static_cast<LAMMPS*>(lmp)->error->all(FLERR, problem);
  Plugin plugin{};
  plugin.version = ARGYASE_LAMMPS_VERSION;
  plugin.style = "pair";
  plugin.name = "mtp";
  plugin.info = "Moment Tensor Potentials, argyase";
  plugin.author = "the argyase developers";
  plugin.creator.v1 = &create;
  plugin.handle = handle;
  reinterpret_cast<Register>(regfunc)(&plugin, lmp);
}
