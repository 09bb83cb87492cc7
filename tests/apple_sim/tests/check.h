// A few lines of test framework: a named test, a comparison, and what a test says of violations.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apple_sim.h"
#import "images.h"

bool add_test(const char* name, std::function<void()> body);
void fail(const char* file, int line, const std::string& what);
void near(const char* file, int line, const std::vector<float>& got, const std::vector<float>& want,
          float tolerance);
// Runs the body and takes the violations it made: exactly one, with this text in it.
void expect_violation(const char* file, int line, const char* text,
                      const std::function<void()>& body);

#define CHECK(x) ((x) ? void() : fail(__FILE__, __LINE__, #x))
#define NEAR(got, ...) near(__FILE__, __LINE__, got, __VA_ARGS__, 1e-5f)
#define VIOLATES(text, ...) expect_violation(__FILE__, __LINE__, text, [&] __VA_ARGS__)
