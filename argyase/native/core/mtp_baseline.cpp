#define ARGYASE_ISA baseline
#define ARGYASE_LANES 2
#include "mtp_simd.inc"
