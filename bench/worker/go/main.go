// A worker and a replayer on the official Go SDK, beside ../worker.cpp and ../replay.cpp.
//
//	go_peer worker --address HOST:PORT --task-queue Q [--cache-size N]    until SIGINT
//	go_peer replay --history FILE.json [--repeats N] [--warmup N]         one line of JSON
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
)

func quiet() sdklog.Logger {
	return sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

func work(arguments *flag.FlagSet) error {
	address := arguments.String("address", "127.0.0.1:7233", "the server")
	queue := arguments.String("task-queue", "bench", "task queue")
	cache := arguments.Int("cache-size", 0, "cached workflows; 0: the SDK's default")
	arguments.Parse(os.Args[2:])
	if *cache > 0 {
		worker.SetStickyWorkflowCacheSize(*cache)
	}
	connection, err := client.Dial(client.Options{HostPort: *address, Logger: quiet()})
	if err != nil {
		return err
	}
	defer connection.Close()
	w := worker.New(connection, *queue, worker.Options{})
	addWorkflows(w)
	addActivities(w)
	return w.Run(worker.InterruptCh())
}

func cpu() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}

func replay(arguments *flag.FlagSet) error {
	path := arguments.String("history", "", "JSON history")
	repeats := arguments.Int("repeats", 20, "measured replays")
	warmup := arguments.Int("warmup", 3, "replays before them")
	arguments.Parse(os.Args[2:])
	file, err := os.Open(*path)
	if err != nil {
		return err
	}
	defer file.Close()
	history, err := client.HistoryFromJSON(file, client.HistoryJSONOptions{})
	if err != nil {
		return err
	}
	replayer := worker.NewWorkflowReplayer()
	addWorkflows(replayer)
	var before time.Duration
	for i := range *warmup + *repeats {
		if i == *warmup {
			if before, err = cpu(); err != nil {
				return err
			}
		}
		if err := replayer.ReplayWorkflowHistory(quiet(), history); err != nil {
			return err
		}
	}
	after, err := cpu()
	seconds := (after - before).Seconds()
	events := len(history.Events)
	fmt.Printf("{\"sdk\":\"go\",\"workload\":\"replay\",\"events\":%d,\"repeats\":%d,\"cpu_s\":%.6f,\"events_per_cpu_s\":%.0f}\n",
		events, *repeats, seconds, float64(events**repeats)/seconds)
	return err
}

func main() {
	commands := map[string]func(*flag.FlagSet) error{"worker": work, "replay": replay}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		log.Fatal("go_peer worker | replay; see the head of main.go")
	}
	if err := commands[os.Args[1]](flag.NewFlagSet(os.Args[1], flag.ExitOnError)); err != nil {
		log.Fatal(err)
	}
}
