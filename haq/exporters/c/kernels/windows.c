/* Windows of a pooling operation. */
struct haq_pool {
    int16_t in_height, in_width, channels, out_height, out_width;
    int16_t kernel_height, kernel_width, stride_y, stride_x, top, left;
};

/* Range of a window inside the image, along one axis. */
struct haq_range {
    int32_t first, end;
};

static struct haq_range haq_inside(int32_t first, int32_t size, int32_t limit)
{
    struct haq_range range;
    range.first = first < 0 ? 0 : first;
    range.end = first + size > limit ? limit : first + size;
    return range;
}
