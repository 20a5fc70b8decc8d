/* libFuzzer: the `anthropic` dialect; fuzz_provider.h says what must hold. */
#include "fuzz_provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    return fuzz_provider("anthropic", input, size);
}
