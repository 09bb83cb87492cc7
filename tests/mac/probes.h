// Questions to Metal Performance Shaders, each of which a function answers in a few words.
#pragma once
#import "images.h"

#include <string>
#include <vector>

std::string text(const std::vector<float>& values);
void finish(id<MTLCommandBuffer> cb);

// Of what trains (probes_training.mm).
std::string second_weight_gradients();
std::string copied_weight_gradients();
#ifndef MPSNN_APPLE_SIM  // the stand-in refuses the first, and has no YOLO loss
std::string half_gradients();
std::string yolo_gradients();
#endif
