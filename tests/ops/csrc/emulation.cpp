// Runs the threads of one block after the other, as fibers.
#include "emulation.h"

#include <c10/util/Exception.h>
#include <setjmp.h>
#include <ucontext.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace halvit {

Stream current_stream() { return nullptr; }
void check_launch(const char*) {}

namespace emulation {

Indices indices;

namespace {

constexpr size_t kStack = 128 << 10;
constexpr int kWarp = 32;

enum class State { kReady, kAtBlock, kAtWarp, kDone };

// A context starts a fiber; from then on jumps change between them, because
// swapcontext() makes a system call each time.
struct Fiber {
  ucontext_t start;
  jmp_buf here;
  bool started = false;
  std::unique_ptr<char[]> stack{new char[kStack]};
  State state = State::kDone;
  float exchanged = 0.f;
};

std::string launches, launches_given;
bool is_idle = false;

std::mutex mutex;  // one launch at a time
std::vector<Fiber> fibers;
ucontext_t unused;
jmp_buf scheduler;
size_t running;
const std::function<void()>* body;

void enter() {
  (*body)();
  fibers[running].state = State::kDone;
  _longjmp(scheduler, 1);
}

void wait(State state) {
  Fiber& self = fibers[running];
  self.state = state;
  if (_setjmp(self.here) == 0) _longjmp(scheduler, 1);
}

void resume(size_t thread) {
  running = thread;
  indices.thread = dim3(static_cast<unsigned>(thread), 0, 0);
  if (_setjmp(scheduler) != 0) return;
  Fiber& fiber = fibers[thread];
  if (fiber.started) _longjmp(fiber.here, 1);
  fiber.started = true;
  swapcontext(&unused, &fiber.start);
}

// Lets a group go on if all of it waits at the same kind of barrier.
bool release(size_t first, size_t last, State at, bool needs_all) {
  size_t waiting = 0, done = 0;
  for (size_t i = first; i < last; ++i) {
    waiting += fibers[i].state == at;
    done += fibers[i].state == State::kDone;
  }
  if (waiting == 0 || waiting + done < last - first) return false;
  if (needs_all && done > 0) return false;
  for (size_t i = first; i < last; ++i) {
    if (fibers[i].state == at) fibers[i].state = State::kReady;
  }
  return true;
}

void run_block(const char* name, bool backwards) {
  const size_t count = fibers.size();
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = kStack;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
    fiber.started = false;
    fiber.state = State::kReady;
  }
  for (;;) {
    bool done = true, moved = false;
    for (size_t i = 0; i < count; ++i) {
      const size_t thread = backwards ? count - 1 - i : i;
      if (fibers[thread].state != State::kReady) continue;
      resume(thread);
      moved = true;
    }
    for (size_t i = 0; i < count; i += kWarp) {
      moved |= release(i, i + kWarp, State::kAtWarp, true);
    }
    moved |= release(0, count, State::kAtBlock, false);
    for (const Fiber& fiber : fibers) done &= fiber.state == State::kDone;
    if (done) return;
    TORCH_CHECK(moved, name, ": threads wait for others that never come");
  }
}

}  // namespace

void sync_block() { wait(State::kAtBlock); }

float shuffle_xor(float value, int mask) {
  fibers[running].exchanged = value;
  wait(State::kAtWarp);
  const float result = fibers[running ^ static_cast<size_t>(mask)].exchanged;
  wait(State::kAtWarp);  // all have read before one writes again
  return result;
}

void run(const char* name, dim3 grid, dim3 block,
         const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(mutex);
  TORCH_CHECK(block.x % kWarp == 0 && block.y == 1 && block.z == 1);
  TORCH_CHECK(grid.x > 0 && grid.y > 0 && grid.z == 1, name, ": empty grid");
  if (is_idle) return;
  launches.append(name).append("\n");
  if (fibers.size() != block.x) fibers = std::vector<Fiber>(block.x);
  body = &kernel;
  indices.grid = grid;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      indices.block = dim3(x, y, 0);
      run_block(name, (x + y) % 2 == 1);
    }
  }
}

}  // namespace emulation
}  // namespace halvit

extern "C" {
// The names of the kernels launched since the last call, one a line.
const char* halvit_host_record() {
  using namespace halvit::emulation;
  launches_given = std::exchange(launches, {});
  return launches_given.c_str();
}
// Whether launches do nothing, so that only the calls themselves take time.
void halvit_host_idle(int idle) { halvit::emulation::is_idle = idle; }
}
