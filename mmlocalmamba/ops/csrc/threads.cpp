#include "threads.h"

#include <algorithm>
#include <atomic>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define MMLOCALMAMBA_FORKS 1
#endif

namespace mmlocalmamba {
namespace {

Runtime runtime;  // not changed once it is published by in_use
std::atomic<Runtime::Kind> in_use{Runtime::kNone};

struct Team {
  const Work& work;
  int64_t tasks;
  std::atomic<bool> failed{false};
};

int ask(void* function) { return reinterpret_cast<int (*)()>(function)(); }

// What each thread of a team does. No exception may leave it: the runtime's frames know none.
void take_share(Team& team) {
  const int64_t size = ask(runtime.num_threads), share = (team.tasks + size - 1) / size;
  const int64_t first = share * ask(runtime.thread_num);
  if (first >= team.tasks) return;
  try {
    team.work(first, std::min(first + share, team.tasks));
  } catch (...) {
    team.failed = true;
  }
}

// libgomp: GOMP_parallel(function, data, number of threads, flags), declared here since no header declares it.
using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
void gomp_share(void* team) { take_share(*static_cast<Team*>(team)); }

// LLVM's and Intel's runtimes: __kmpc_fork_call(location, count, function, arguments...), the number of threads being
// told before. Both want to be told of a place in the source.
struct KmpLocation {
  int32_t reserved_1 = 0, flags = 2, reserved_2 = 0, reserved_3 = 0;  // 2: a call in the style of kmpc
  const char* source = ";mmlocalmamba;for_tasks;0;0;;";
};
using KmpFunction = void (*)(int32_t*, int32_t*, ...);
using KmpForkCall = void (*)(KmpLocation*, int32_t, KmpFunction, ...);
using KmpPushNumThreads = void (*)(KmpLocation*, int32_t, int32_t);
using KmpThreadId = int32_t (*)(KmpLocation*);
void kmp_share(int32_t*, int32_t*, Team* team) { take_share(*team); }

void fork_team(Runtime::Kind kind, int threads, Team& team) {
  if (kind == Runtime::kGomp) {
    reinterpret_cast<GompParallel>(runtime.fork)(gomp_share, &team, static_cast<unsigned>(threads), 0);
    return;
  }
  static KmpLocation location;
  const int32_t thread_id = reinterpret_cast<KmpThreadId>(runtime.thread_id)(&location);
  reinterpret_cast<KmpPushNumThreads>(runtime.push_num_threads)(&location, thread_id, threads);
  reinterpret_cast<KmpForkCall>(runtime.fork)(&location, 1, reinterpret_cast<KmpFunction>(kmp_share), &team);
}

#if defined(MMLOCALMAMBA_FORKS)
// libgomp waits forever for threads that only the parent has, whoever started them there. The others start new ones.
void leave_threads_to_parent() {
  if (in_use == Runtime::kGomp) in_use = Runtime::kNone;
}
#endif

}  // namespace

void for_tasks(int64_t threads, int64_t tasks, const Work& work) {
  const Runtime::Kind kind = in_use;
  if (tasks <= 0) return;
  if (tasks == 1 || threads <= 1 || kind == Runtime::kNone || ask(runtime.in_parallel)) return work(0, tasks);
  // All of them, even for fewer tasks: libgomp starts and ends threads whenever a team's size changes.
  Team team{work, tasks};
  fork_team(kind, static_cast<int>(std::min<int64_t>(threads, 1 << 15)), team);
  if (team.failed) throw std::bad_alloc();
}

void set_runtime(const Runtime& given) {
  if (in_use != Runtime::kNone) return;
  runtime = given;
  in_use = given.kind;
#if defined(MMLOCALMAMBA_FORKS)
  static const int registered = pthread_atfork(nullptr, nullptr, leave_threads_to_parent);
  (void)registered;
#endif
}

}  // namespace mmlocalmamba
