#define ARGYASE_ISA avx2
#define ARGYASE_BYTES 32
#include "mtp_simd.inc"
#include "design_simd.inc"
