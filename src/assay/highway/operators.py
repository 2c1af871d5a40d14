"""The vocabulary of backward nodes: which carry a value on unchanged, and which mix it with weights."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a line, as a set."""
    return frozenset(text.split())


# The value arrives as it was, in another shape, place or precision. The carried input is the first.
IDENTITY = words(
    "View UnsafeView Reshape ReshapeAlias Transpose T Permute Expand ExpandAs Squeeze Unsqueeze Clone "
    "Contiguous ToCopy Alias NativeDropout FusedDropout Roll Movedim Flatten Unflatten AsStrided "
    "MaskedFill Copy Flip Detach LiftFresh Swapaxes Mh ErrorBackward BroadcastTo ViewAs Identity "
    "ToDense Rot90 PixelShuffle PixelUnshuffle ConstantPadNd"
)
# A part of the value, which may be another part than the diversion takes.
CROP = frozenset(["Slice", "Narrow"])
PARTITION = CROP | words(
    "Select Unbind Split SplitWithSizes UnsafeSplit UnsafeSplitWithSizes UnsafeChunk Chunk Index "
    "IndexSelect Gather Take TensorSplit"
)
NORM = words(
    "NativeLayerNorm NativeBatchNorm CudnnBatchNorm MiopenBatchNorm NativeGroupNorm FusedRmsNorm "
    "NativeBatchNormLegit BatchNormWithUpdate"
)
# Element-wise and close to the identity on half of the line; sigmoid and tanh are not.
ACTIVATION = words(
    "Relu LeakyRelu Elu Gelu Silu Hardswish Prelu PreluKernel Threshold Celu Mish Hardtanh "
    "RreluWithNoise Clamp ClampMin ClampMax"
)
# With weights these are the parametrised operators whose number makes a network deep.
MIXING = words(
    "Addmm Mm Bmm Baddbmm Addbmm Addmv Mv Dot Linear MkldnnLinear Bilinear Trilinear Convolution "
    "ConvolutionOverrideable MkldnnConvolution CudnnConvolution CudnnConvolutionTranspose "
    "SlowConvDilated2D SlowConv2D ThnnConv2D ConvDepthwise2D ConvDepthwise3D SlowConv3D "
    "MiopenConvolution Embedding EmbeddingBag GroupedMm ScaledMm MkldnnRnnLayer CudnnRnn LstmMps "
    "MiopenRnn ThnnFusedGruCell ThnnFusedLstmCell"
)
# On a skip path these are a projection: linear, but no longer the identity.
PROJECTION = words(
    "Addmm Mm Bmm Baddbmm Linear MkldnnLinear Convolution ConvolutionOverrideable "
    "MkldnnConvolution CudnnConvolution"
)
RESAMPLING = words(
    "AvgPool1D AvgPool2D AvgPool3D AdaptiveAvgPool1D AdaptiveAvgPool2D MaxPool2D "
    "MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D UpsampleNearest1D "
    "UpsampleNearest2D UpsampleNearestExact2D UpsampleBilinear2D UpsampleBicubic2D "
    "UpsampleNearest3D UpsampleTrilinear3D UpsampleLinear1D ReflectionPad1D ReflectionPad2D "
    "ReplicationPad1D ReplicationPad2D"
)
# Over a dimension: what tells a norm (x / rms(x)) from an activation (x · sigmoid(x)).
REDUCTION = words("Mean Sum Var Std VarMean StdMean LinalgVectorNorm Norm Amax Max Logsumexp")
# Recurrent kernels that are one node; what is inside has to be known by name.
FUSED_RECURRENCE = words("MkldnnRnnLayer CudnnRnn LstmMps MiopenRnn")

# The two sides of an addition, as positions of its operands.
SUMS: dict[str, tuple[tuple[int, ...], ...]] = {
    "Add": ((0,), (1,)),
    "Sub": ((0,), (1,)),
    "Lerp": ((0,), (1,)),
    "Where": ((0,), (1,)),
    "Addcmul": ((0,), (1, 2)),
    "Addcdiv": ((0,), (1,)),
    "Addmm": ((0,), (1, 2)),
    "Addmv": ((0,), (1, 2)),
    "Baddbmm": ((0,), (1, 2)),
    "Addbmm": ((0,), (1, 2)),
    # fused cells: the state, and the two packs of gates
    "ThnnFusedGruCell": ((2,), (0, 1)),
    "ThnnFusedLstmCell": ((2,), (0, 1)),
}
# Which output of a fused cell is the state that its skip path carries: an LSTM's is not the first.
STATES = {"ThnnFusedLstmCell": 1}
# Element-wise operators through which a constant initial state may enter a step.
ELEMENTWISE = words("Add Sub Mul Lerp Where Addcmul Div Neg Rsub")
