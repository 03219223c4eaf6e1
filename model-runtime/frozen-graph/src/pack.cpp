// Freezes a TorchScript module and gives its linear layers weights in the layout that oneDNN multiplies fastest. What for is in lib.rs.
//
// Whatever is thrown in here stays in here: `frozen_graph_pack` answers with a message.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/freeze_module.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

// A smaller weight is multiplied sooner than oneDNN is called: measured, a layer of 64 x 256 lost 20 microseconds, one of 384 x 384 won 150.
constexpr std::int64_t kSmallestWeight = 1 << 16;

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// The packed weights of a graph; what several layers share is packed once.
class PackedWeights {
 public:
  explicit PackedWeights(Graph* graph) : graph_(graph) {}

  // A constant of the graph that every block sees.
  Value* of(const at::Tensor& weight) {
    Value*& known = constants_[{weight.data_ptr(), weight.sizes().vec(), weight.strides().vec()}];
    if (!known) {
      const torch::jit::WithInsertPoint at_the_top(*graph_->nodes().begin());
      // As libtorch's own pass for convolutions holds such a weight: a plain constant cannot.
      Node* constant = graph_->insertNode(graph_->create(c10::prim::ConstantMKLDNNTensor));
      constant->t_(c10::attr::value, packed(weight));
      known = constant->output();
    }
    return known;
  }

 private:
  static at::Tensor packed(const at::Tensor& weight) {
    // Called by its name: the function behind it has no declaration in libtorch's headers.
    static const c10::OperatorHandle reorder =
        c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "");
    torch::jit::Stack stack{weight.contiguous(), c10::IValue()};
    reorder.callBoxed(&stack);
    return stack.at(0).toTensor();
  }

  Graph* graph_;
  std::map<std::tuple<const void*, std::vector<std::int64_t>, std::vector<std::int64_t>>, Value*> constants_;
};

// The weight of a linear layer, if it is a constant that oneDNN takes.
std::optional<at::Tensor> packable_weight(const Node* linear) {
  const std::optional<c10::IValue> weight = torch::jit::toIValue(linear->input(1));
  if (!weight || !weight->isTensor()) return std::nullopt;
  const at::Tensor& tensor = weight->toTensor();
  const bool fits = tensor.device().is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == at::kFloat &&
      tensor.dim() == 2 && tensor.numel() >= kSmallestWeight;
  return fits ? std::optional(tensor) : std::nullopt;
}

// An activation that oneDNN computes while the products are still in the cache.
struct Activation {
  Node* node = nullptr;
  std::string name = "none";
  std::string algorithm;
};

Activation activation_after(const Node* linear) {
  const auto& uses = linear->output()->uses();
  if (uses.size() != 1) return {};
  Node* user = uses[0].user;
  if (user->owningBlock() != linear->owningBlock()) return {};
  if (user->kind() == c10::aten::relu) return {user, "relu", ""};
  if (user->kind() == c10::aten::gelu) {
    const std::optional<c10::IValue> approximate = torch::jit::toIValue(user->input(1));
    if (approximate && approximate->isString()) return {user, "gelu", approximate->toStringRef()};
  }
  return {};
}

void replace(Node* linear, Value* weight) {
  Graph* graph = linear->owningGraph();
  const torch::jit::WithInsertPoint here(linear);
  const Activation activation = activation_after(linear);
  Node* scalars = graph->insertNode(graph->createList(c10::OptionalType::create(c10::NumberType::get()), {}));
  Node* fused = graph->insertNode(graph->create(
      c10::Symbol::fromQualString("mkldnn::_linear_pointwise"),
      {linear->input(0), weight, linear->input(2), graph->insertConstant(activation.name), scalars->output(),
       graph->insertConstant(activation.algorithm)}));

  Node* last = activation.node ? activation.node : linear;
  last->output()->replaceAllUsesWith(fused->output());
  if (activation.node) activation.node->destroy();
  linear->destroy();
}

std::uint64_t pack(Block* block, PackedWeights& weights) {
  std::uint64_t count = 0;
  std::vector<Node*> linears;
  for (Node* node : block->nodes()) {
    if (node->kind() == c10::aten::linear) linears.push_back(node);
    for (Block* inner : node->blocks()) count += pack(inner, weights);
  }
  for (Node* linear : linears) {
    if (const std::optional<at::Tensor> weight = packable_weight(linear)) {
      replace(linear, weights.of(*weight));
      count += 1;
    }
  }
  return count;
}

void say(const char* text, char* message, std::size_t room) {
  if (room == 0) return;
  std::strncpy(message, text, room - 1);
  message[room - 1] = '\0';
}

}  // namespace

// Makes of `*module` its frozen copy with packed linear layers, and says in `*layers` how many these are; without any it stays what it was. Returns false,
// the module being what it was, with the reason in `message` (at most `room` bytes, the last one 0).
extern "C" bool frozen_graph_pack(torch::jit::Module* module, std::uint64_t* layers, char* message, std::size_t room) {
  try {
    torch::jit::Module frozen = torch::jit::freeze(*module);
    const std::shared_ptr<Graph> graph = frozen.get_method("forward").graph();
    PackedWeights weights(graph.get());
    *layers = pack(graph->block(), weights);
    if (*layers == 0) return true;
    // The weights in their old layout are constants that nothing uses any more.
    torch::jit::EliminateDeadCode(graph);
    graph->lint();
    *module = std::move(frozen);
    return true;
  } catch (const std::exception& error) {
    say(error.what(), message, room);
  } catch (...) {
    say("an exception of an unknown type", message, room);
  }
  return false;
}
