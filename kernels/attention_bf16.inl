// Attention of many rows by AVX-512's products of bf16 pairs, after attention.inl and in its namespace: the same bits at twice
// the rate. The instruction adds the products of the upper halves of two words to a sum, then those of the lower, each
// exactly and rounded once (Intel's manual, VDPBF16PS). So a chain's next two places make a word, the first of them above.
struct PairFactors {
    static constexpr int kPlaces = 2;

    TW_MEMBER static Floats add_product(const float* factor, Floats column, Floats sum) {
        asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(column), "m"(*factor));
        return sum;
    }
    // Of four places, 0 and 2 make a word of the even chain, 1 and 3 one of the odd.
    TW_MEMBER static void put(float* row, int place, Floats sixteen) {
        const __m512i places = _mm512_castps_si512(sixteen);
        const Floats words = pair(sixteen, _mm512_castsi512_ps(_mm512_shuffle_epi32(places, _MM_PERM_DDDC)));
        const __m512i order = _mm512_set_epi64(7, 7, 7, 7, 6, 4, 2, 0);
        const __m512i first = _mm512_permutexvar_epi64(order, _mm512_castps_si512(words));
        _mm256_storeu_si256((__m256i*)(row + place / 2), _mm512_castsi512_si256(first));
    }
    template <int place, class Pairs>
    TW_MEMBER static Floats column(const Pairs& from, int j) {
        return pair(from.template at<place>(j), from.template at<place>(j + 1));
    }

private:
    TW_MEMBER static Floats pair(Floats above, Floats below) {
        const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(below), 16);
        return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(above), low));
    }
};

static void attend_by_pairs(const Query* queries, int count, const KeyValues& kv, int kv_head, const int32_t* table,
                            int begin, int end, float* scratch, float* parts) {
    attend_by<PairFactors>(queries, count, kv, kv_head, table, begin, end, scratch, parts);
}

// `sum`, then a word's two products in the order that the processor adds them in.
static float add_pair(float sum, uint32_t word) {
    float factor, sums[16];
    __builtin_memcpy(&factor, &word, sizeof factor);
    store(sums, PairFactors::add_product(&factor, _mm512_castsi512_ps(_mm512_set1_epi32(0x3F803F80)), splat(sum)));
    return sums[0];
}

// Whether the processor has those products, and adds them as said above: 2^24 + 1 is 2^24 in float32, so that 1 is lost
// where the lower product is added before the upper one, or to it.
static bool has_pair_products() {
    constexpr uint32_t minus_2_24_and_1 = 0xCB803F80, plus_2_24_and_1 = 0x4B803F80;
    return supported() && __builtin_cpu_supports("avx512bf16") && add_pair(0x1p24f, minus_2_24_and_1) == 1.0f &&
           add_pair(-0x1p24f, plus_2_24_and_1) == 1.0f;
}
