// A few threads that wait for work.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace argyase {

// Where part n of so many begins.
inline int share(int count, int n, int parts) {
  return static_cast<int>(static_cast<long long>(count) * n / parts);
}

// Threads that sleep when they have nothing to do. Before that they look for work for as long as waking them
// takes, giving the core to whoever wants it: the steps of one computation follow each other faster than a
// thread wakes.
class Threads {
 public:
  explicit Threads(int count);
  ~Threads();
  // Into how many parts the work on so many atoms is worth dividing: waking a thread costs as much as that
  // on 50.
  int parts(int atoms) const { return std::clamp(atoms / 100, 1, static_cast<int>(workers_.size()) + 1); }
  int count() const { return static_cast<int>(workers_.size()) + 1; }
  // work(0), ..., work(parts - 1), of which there are no more than threads, at once; returns when all have
  // ended.
  void run(int parts, const std::function<void(int)>& work);

 private:
  void serve(int number);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, end_;
  const std::function<void(int)>* work_ = nullptr;
  int parts_ = 0;
  std::atomic<int> round_ = 0, running_ = 0;
  std::atomic<bool> stop_ = false;
};

}  // namespace argyase
