// Instances that wait for the network, meet, ask for a shape, and leave together.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/testground/sdk-go/network"
	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
	"github.com/testground/sdk-go/sync"
)

func main() {
	run.InvokeMap(map[string]interface{}{"ok": run.InitializedTestCaseFn(shape)})
}

func shape(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	init.MustWaitAllInstancesInitialized(ctx)
	env.RecordMessage("all are initialised")
	init.NetClient.MustConfigureNetwork(ctx, &network.Config{
		Network:        "default",
		Enable:         true,
		Default:        network.LinkShape{Bandwidth: 10_000_000},
		CallbackState:  sync.State(fmt.Sprintf("shaped-%d", init.GlobalSeq)),
		CallbackTarget: 1,
	})
	env.RecordMessage("this one is shaped")
	_, err := init.SyncClient.SignalAndWait(ctx, "done", env.TestInstanceCount)
	return err
}
