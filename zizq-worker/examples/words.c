/* Counts the words of its argument. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *number = getenv("ZIZQ_CTL_FD");
    FILE *control = number ? fdopen(atoi(number), "w") : NULL;
    if (argc != 2 || control == NULL) {
        fprintf(stderr, "this is a job: it needs a text, and a worker that runs it\n");
        return 64; /* EX_USAGE */
    }
    if (argv[1][0] == '\0') {
        fprintf(stderr, "the text is empty\n");
        return 65; /* EX_DATAERR: trying again is of no use */
    }
    int words = 0, inside = 0;
    for (const char *at = argv[1]; *at; at++) {
        int space = isspace((unsigned char)*at);
        words += !space && !inside;
        inside = !space;
    }
    fprintf(control, "{\"progress\": 1, \"message\": \"counted\"}\n");
    fprintf(control, "{\"result\": {\"words\": %d}}\n", words);
    fclose(control);
    printf("%d words\n", words);
    return 0;
}
