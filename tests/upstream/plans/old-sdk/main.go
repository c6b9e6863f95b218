// The old side: a plan on the last sdk-go that looks for Redis.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
	"github.com/testground/sdk-go/sync"
)

func main() {
	run.InvokeMap(map[string]interface{}{"meet": run.InitializedTestCaseFn(meet)})
}

func meet(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	heard := make(chan string, env.TestInstanceCount)
	hello := fmt.Sprintf("peer %d of %s", init.GlobalSeq, env.TestGroupID)
	topic := sync.NewTopic("peers", "")
	if _, _, err := init.SyncClient.PublishSubscribe(ctx, topic, hello, heard); err != nil {
		return err
	}
	for i := 0; i < env.TestInstanceCount; i++ {
		select {
		case peer := <-heard:
			env.RecordMessage("heard %s", peer)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err := init.SyncClient.SignalAndWait(ctx, "done", env.TestInstanceCount)
	return err
}
