// SPDX-License-Identifier: Apache-2.0
// reduce.glsl -- sum and maximum over the threads of a group, in a fixed order.
shared float part[GROUP];

float group_sum(float v)
{
    uint t = gl_LocalInvocationID.x;
    part[t] = v;
    barrier();
    for (uint step = GROUP / 2; step > 0u; step /= 2u) {
        if (t < step)
            part[t] += part[t + step];
        barrier();
    }
    float sum = part[0];
    barrier();                          // before part is used again
    return sum;
}

float group_max(float v)
{
    uint t = gl_LocalInvocationID.x;
    part[t] = v;
    barrier();
    for (uint step = GROUP / 2; step > 0u; step /= 2u) {
        if (t < step)
            part[t] = max(part[t], part[t + step]);
        barrier();
    }
    float most = part[0];
    barrier();
    return most;
}
