"""Launches and bytes of generated code that is small enough to count by hand."""
from fastgan.bench.cuda_code.code_reading import read

CODE = """
triton_poi_fused__to_copy_0 = async_compile.triton('triton_poi_fused__to_copy_0', '''
    triton_meta={'signature': {'in_ptr0': '*fp32', 'out_ptr0': '*bf16', 'xnumel': 'i32', 'XBLOCK': 'constexpr'}, \
'c': {}},
def triton_poi_fused__to_copy_0(in_ptr0, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    xnumel = 1000
    tmp0 = tl.load(in_ptr0 + (x0), xmask)
    tl.store(out_ptr0 + (x0), tmp0, xmask)
''', device_str='cuda')
triton_poi_fused_index_select_1 = async_compile.triton('triton_poi_fused_index_select_1', '''
    triton_meta={'signature': {'in_ptr0': '*u8', 'in_out_ptr0': '*fp32', 'xnumel': 'i32', 'XBLOCK': 'constexpr'}, \
'c': {}},
def triton_poi_fused_index_select_1(in_ptr0, in_out_ptr0, xnumel, XBLOCK : tl.constexpr):
    xnumel = 50
    tmp0 = tl.load(in_ptr0 + (x0 + 7*tmp9), xmask)
    tmp1 = tl.load(in_ptr0 + (x0 + 7*tmp9), None)
    tmp2 = tl.load(in_ptr0 + (1 + x0 + 7*tmp9), None)
''', device_str='cuda')
triton_red_fused_native_batch_norm_backward_2 = async_compile.triton('triton_red_fused_native_batch_norm_backward_2', \
'''
    triton_meta={'signature': {'in_ptr0': '*bf16', 'out_ptr0': '*fp32', 'xnumel': 'i32', 'r0_numel': 'i32'}, 'c': {}},
def triton_red_fused_native_batch_norm_backward_2(in_ptr0, out_ptr0, xnumel, r0_numel):
    xnumel = 16
    r0_numel = 100
    tmp0 = tl.load(in_ptr0 + (x0 + 16*r0_1), xmask)
''', device_str='cuda')
triton_for_fused_3 = async_compile.triton('triton_for_fused_3', '''
    triton_meta={'signature': {'in_ptr0': '*fp32', 'out_ptr0': '*fp32'}, 'constants': {}},
    inductor_meta={'combo_grid_meta': {'num_kernels': 1}},
    num_xblocks_0 = tl.cdiv(8, XBLOCK)
        xnumel = 8
''', device_str='cuda')
triton_for_fused_4 = async_compile.triton('triton_for_fused_4', '''
    triton_meta={'signature': {'in_ptr0': '*fp32', 'in_ptr1': '*fp32', 'out_ptr0': '*bf16', 'out_ptr1': '*bf16'}, \
'constants': {}},
    inductor_meta={'combo_grid_meta': {'num_kernels': 2}},
''', device_str='cuda')

def call(args):
    arg0_1, arg1_1 = args
    with torch.cuda._DeviceGuard(0):
        buf0 = empty_strided_cuda((1000, ), (1, ), torch.bfloat16)
        triton_poi_fused__to_copy_0.run(arg0_1, buf0, 1000, stream=stream0)
        triton_poi_fused_index_select_1.run(arg1_1, buf1, 50, stream=stream0)
        buf2 = extern_kernels.convolution(buf0, arg0_1, stride=(2, 2), transposed=False)
        buf3 = torch.ops.aten.convolution_backward.default(buf2, buf0, buf1, [0], [2, 2])
        triton_red_fused_native_batch_norm_backward_2.run(reinterpret_tensor(buf0, (400, 4), (4, 1), 0), buf4, 16, \
100, stream=stream0)
        triton_for_fused_3.run(arg0_1, arg0_1, stream=stream0)
        extern_kernels.mm(buf0, buf1, out=buf5)
        buf6 = torch.ops.fastgan.batch_norm_statistics_triton.default(buf2, arg3_1, arg4_1, 0.1, 1e-05, 1)
        triton_for_fused_4.run(arg0_1, arg3_1, buf0, buf7, stream=stream0)
        buf8 = torch.ops.fastgan.channel_sums.default([buf2, buf1])
"""
BYTES = {
    "arg0_1": 4000,
    "arg1_1": 10**9,
    "buf0": 2000,
    "buf1": 200,
    "buf2": 640,
    "buf4": 64,
    "arg3_1": 64,
    "arg4_1": 64,
}


def test_every_launch_is_counted_by_what_it_does():
    reading = read(CODE, BYTES)
    kinds = [launch.kind for launch in reading.launches]
    assert kinds == ["casts", "rest", "norm gradients", "optimisers", "statistics", "casts", "rest"]
    assert [kind for _, kind in reading.library] == ["convolutions", "weight gradients", "products"]
    assert set(reading.kernels) == {launch.name for launch in (*reading.launches[:4], reading.launches[5])}


def test_bytes_are_those_that_a_kernel_can_reach():
    cast, gather, sums, optimiser, statistics, casts, channels = (launch.bytes for launch in read(CODE, BYTES).launches)
    assert cast == 1000 * 4 + 1000 * 2
    # Two places of the data set an element, and a result that is read and written
    assert gather == 2 * 50 * 1 + 2 * 50 * 4
    assert sums == 2000 + 64  # a view reaches no more than its buffer has
    assert optimiser == 2 * 4000
    assert statistics == 640 + 2 * 64
    assert casts == 4000 + 64 + 2000
    assert channels == 640 + 200
