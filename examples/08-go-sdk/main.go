// What the published Go SDK offers, a test case each: meeting others, measuring, and the two ways to go wrong.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
	"github.com/testground/sdk-go/sync"
)

const (
	ready = sync.State("ready")
	done  = sync.State("done")
)

// greeting is what instances tell each other.
type greeting struct {
	From int64
	Text string
}

var greetings = sync.NewTopic("greetings", greeting{})

func main() {
	run.InvokeMap(map[string]interface{}{
		"meet":    run.InitializedTestCaseFn(meet),
		"measure": run.InitializedTestCaseFn(measure),
		"panic":   run.InitializedTestCaseFn(panics),
		"failure": run.InitializedTestCaseFn(fails),
	})
}

// meet publishes a greeting, hears those of all others, and leaves together with them.
func meet(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	init.MustWaitAllInstancesInitialized(ctx)
	env.RecordMessage("I am number %d of all, %d of group %s", init.GlobalSeq, init.GroupSeq, env.TestGroupID)

	heard := make(chan greeting)
	mine := greeting{init.GlobalSeq, env.StringParam("greeting")}
	_, subscription, err := init.SyncClient.PublishSubscribe(ctx, greetings, mine, heard)
	if err != nil {
		return err
	}
	from := map[int64]bool{}
	for len(from) < env.TestInstanceCount {
		select {
		case one := <-heard:
			from[one.From] = true
		case err := <-subscription.Done():
			return fmt.Errorf("heard only of %d: %w", len(from), err)
		}
	}
	env.R().RecordPoint("greetings", float64(len(from)))
	_, err = init.SyncClient.SignalAndWait(ctx, done, env.TestInstanceCount)
	return err
}

// measure records every kind of metric. Points are written at once, aggregates with the next harvest.
func measure(env *runtime.RunEnv, init *run.InitContext) error {
	harvest, err := time.ParseDuration(env.StringParam("harvest"))
	if err != nil {
		return err
	}
	env.R().SetFrequency(harvest)
	env.D().SetFrequency(harvest)

	counter, meter, timer := env.R().Counter("rounds"), env.R().Meter("speed"), env.R().Timer("round")
	histogram := env.R().Histogram("sizes", env.R().NewUniformSample(100))
	env.R().Gauge("instances").Update(float64(env.TestInstanceCount))
	rounds := env.IntParam("rounds")
	for round := 1; round <= rounds; round++ {
		start := time.Now()
		work()
		timer.UpdateSince(start)
		counter.Inc(1)
		meter.Mark(1)
		histogram.Update(int64(round))
		env.R().RecordPoint("took_ms,work=sum", float64(time.Since(start))/float64(time.Millisecond))
	}
	env.D().RecordPoint("done", 1)
	time.Sleep(2 * harvest)
	return nil
}

// panics crashes one instance while the others wait for it.
func panics(env *runtime.RunEnv, init *run.InitContext) error {
	if init.GlobalSeq == 1 {
		var nobody map[string]int
		nobody["home"] = 1
	}
	_, err := init.SyncClient.SignalAndWait(context.Background(), ready, env.TestInstanceCount)
	return err
}

// fails ends one instance with an error while the others wait for it.
func fails(env *runtime.RunEnv, init *run.InitContext) error {
	if init.GlobalSeq == 1 {
		return fmt.Errorf("heard 0 greetings, wanted %d", env.IntParam("wanted"))
	}
	_, err := init.SyncClient.SignalAndWait(context.Background(), ready, env.TestInstanceCount)
	return err
}

// work is there to be measured.
func work() (sum uint64) {
	for i := uint64(0); i < 1_000_000; i++ {
		sum += i
	}
	return sum
}
