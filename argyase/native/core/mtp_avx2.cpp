#define ARGYASE_ISA avx2
#define ARGYASE_BYTES 32
#include "design_simd.inc"
#include "mtp_simd.inc"
