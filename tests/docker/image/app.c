/* The one program of the test image. What it does is its first argument. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void leave(int number)
{
	(void)number;
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "run";

	if (strcmp(what, "fail") == 0) {
		/* A service that cannot start, with a line for its log. */
		puts("cannot open the database");
		return 3;
	}
	if (strcmp(what, "done") == 0) {
		/* A job, or a service that is not meant to go on. */
		puts("migrated");
		return 0;
	}
	if (strcmp(what, "cat") == 0 && argc > 2) {
		char buffer[4096];
		size_t length;
		FILE *file = fopen(argv[2], "r");
		if (!file) {
			perror(argv[2]);
			return 1;
		}
		while ((length = fread(buffer, 1, sizeof buffer, file)) > 0)
			fwrite(buffer, 1, length, stdout);
		fclose(file);
		return 0;
	}
	/* The first process of a container ignores what it has no handler for. */
	signal(SIGTERM, strcmp(what, "stubborn") == 0 ? SIG_IGN : leave);
	puts("up");
	fflush(stdout);
	for (;;)
		pause();
}
