#include "threads.h"

namespace argyase {

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
    const std::function<void(int)>* work;
    int parts;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      start_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      work = work_, parts = parts_;
    }
    if (number < parts) (*work)(number);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--running_ == 0) end_.notify_one();
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
  std::unique_lock<std::mutex> lock(mutex_);
  end_.wait(lock, [&] { return running_ == 0; });
}

}  // namespace argyase
