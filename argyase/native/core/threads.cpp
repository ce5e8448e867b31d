#include "threads.h"

#include <chrono>

namespace argyase {
namespace {

// About what the system takes to wake a thread, on a virtual machine.
constexpr std::chrono::microseconds kPatience(100);

// Whether it came true while we had patience.
template <class Condition>
bool soon(const Condition& condition) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

Threads::Threads(int count) {
  for (int n = 1; n < count; ++n) workers_.emplace_back([this, n] { serve(n); });
}

Threads::~Threads() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Threads::serve(int number) {
  for (int seen = 0;;) {
    // The next round begins only when all have ended this one: none is missed.
    const auto called = [&] { return stop_ || round_ != seen; };
    if (!soon(called)) {
      std::unique_lock<std::mutex> lock(mutex_);
      start_.wait(lock, called);
    }
    if (stop_) return;
    seen = round_;
    if (number < parts_) (*work_)(number);
    if (--running_ == 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      end_.notify_one();
    }
  }
}

void Threads::run(int parts, const std::function<void(int)>& work) {
  if (parts <= 1) return work(0);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work, parts_ = parts;
    running_ = static_cast<int>(workers_.size());
    ++round_;
  }
  start_.notify_all();
  work(0);
  const auto ended = [&] { return running_ == 0; };
  if (soon(ended)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  end_.wait(lock, ended);
}

}  // namespace argyase
