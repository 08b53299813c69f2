// Casts a list of matrices and vectors in one launch, some of them transposed.
//
// A block takes 4096 values of one segment: a run of them, or a 64 x 64 tile
// that goes through shared memory, so that both sides are coalesced.
#include "device.cuh"

namespace halvit {
namespace {

constexpr int kTile = 64;
constexpr int kBlockValues = kTile * kTile;
constexpr int kTileVecs = kTile / kVec;  // 16-byte pieces in a tile's row

__device__ inline void cast_run(const CastSegment& s, int64_t block) {
  const int64_t count = s.rows * s.cols;
#pragma unroll
  for (int i = 0; i < kBlockValues / kBlockCols; ++i) {
    const int64_t index =
        block * kBlockValues + (i * kThreads + threadIdx.x) * kVec;
    if (index >= count) continue;
    float values[8];
    load(s.src, index, values);
    store(s.dst, index, values);
  }
}

__device__ inline void cast_tile(const CastSegment& s, int64_t block) {
  __shared__ float tile[kTile][kTile + 1];  // the pad spreads a column's banks
  const int64_t tiles_across = (s.cols + kTile - 1) / kTile;
  const int64_t row0 = block / tiles_across * kTile;
  const int64_t col0 = block % tiles_across * kTile;
#pragma unroll
  for (int i = 0; i < kBlockValues / kBlockCols; ++i) {
    const int vec = i * kThreads + threadIdx.x;
    const int row = vec / kTileVecs, col = vec % kTileVecs * kVec;
    if (row0 + row >= s.rows || col0 + col >= s.cols) continue;
    float values[8];
    load(s.src, (row0 + row) * s.cols + col0 + col, values);
#pragma unroll
    for (int j = 0; j < kVec; ++j) tile[row][col + j] = values[j];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kBlockValues / kBlockCols; ++i) {
    const int vec = i * kThreads + threadIdx.x;
    const int col = vec / kTileVecs, row = vec % kTileVecs * kVec;
    if (row0 + row >= s.rows || col0 + col >= s.cols) continue;
    float values[8];
#pragma unroll
    for (int j = 0; j < kVec; ++j) values[j] = tile[row + j][col];
    store(s.dst, (col0 + col) * s.rows + row0 + row, values);
  }
}

__global__ void __launch_bounds__(kThreads) cast_kernel(const CastSegments p) {
  // Unrolled, with constant indices: see reduce.cu.
  CastSegment mine = p.segment[0];
#pragma unroll
  for (int i = 1; i < kMaxSegments; ++i) {
    if (i < p.count && blockIdx.x >= p.segment[i].first_block) {
      mine = p.segment[i];
    }
  }
  const int64_t block = blockIdx.x - mine.first_block;
  if (mine.transposed) {
    cast_tile(mine, block);
  } else {
    cast_run(mine, block);
  }
}

}  // namespace

void launch_cast(CastSegments p, Stream stream) {
  int64_t blocks = 0;
  for (int i = 0; i < p.count; ++i) {
    CastSegment& s = p.segment[i];
    s.first_block = blocks;
    blocks += s.transposed ? ceil_div(s.rows, kTile) * ceil_div(s.cols, kTile)
                           : ceil_div(s.rows * s.cols, kBlockValues);
  }
  if (blocks == 0) return;
  const dim3 grid(static_cast<unsigned>(blocks));
  HALVIT_LAUNCH(cast_kernel, grid, dim3(kThreads), stream, p);
}

}  // namespace halvit
