// What the tests can ask the emulation: what was launched, and to refuse.
#pragma once

namespace halvit {

// Adds a line to the record.
void record_launch(const char* kernel);

}  // namespace halvit

extern "C" {
// One line a launch or product since the last call.
const char* halvit_host_record();
// Whether products refuse every epilogue, as cublasLt may.
void halvit_host_refuse(int refuse);
}
