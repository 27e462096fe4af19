// The kernels in the instructions that every processor of this architecture has.
#include "kernels.h"
