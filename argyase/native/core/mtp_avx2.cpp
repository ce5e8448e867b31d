#define ARGYASE_ISA avx2
#define ARGYASE_LANES 4
#include "mtp_simd.inc"
