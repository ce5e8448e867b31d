// A few threads that wait for work.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace argyase {

// Threads that sleep when they have nothing to do: nothing is lost where cores are shared.
class Threads {
 public:
  explicit Threads(int count);
  ~Threads();
  int count() const { return static_cast<int>(workers_.size()) + 1; }
  // work(0), ..., work(count - 1) at once; returns when all have ended.
  void run(const std::function<void(int)>& work);

 private:
  void serve(int number);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, end_;
  const std::function<void(int)>* work_ = nullptr;
  int round_ = 0, running_ = 0;
  bool stop_ = false;
};

}  // namespace argyase
