// Owns: the program of `go-client.test.ts`: what a controller written with client-go does. Usage: go-client KUBECONFIG.
// Prints one JSON line for each thing seen; exits 0 at the end of its script. Judges only: nothing of the mesh is in it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

const namespace = "shop"

var ctx, stop = context.WithTimeout(context.Background(), 50*time.Second)

func say(what string, value any) {
	line, err := json.Marshal([]any{what, value})
	must(err)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Two candidates for one Lease, as controllers are: the second leads when the first gives up, and never beside it.
func elect(client kubernetes.Interface) {
	told := make(chan string, 16)
	candidate := func(name string) context.CancelFunc {
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "controller", Namespace: namespace},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		}
		running, cancel := context.WithCancel(ctx)
		go leaderelection.RunOrDie(running, leaderelection.LeaderElectionConfig{
			Lock: lock, ReleaseOnCancel: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 50 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { told <- name + " leads" },
				OnStoppedLeading: func() { told <- name + " stopped" },
			},
		})
		return cancel
	}
	next := func() string {
		select {
		case word := <-told:
			return word
		case <-time.After(10 * time.Second):
			return "nothing"
		}
	}
	leases := client.CoordinationV1().Leases(namespace)
	holder := func() string {
		lease, err := leases.Get(ctx, "controller", metav1.GetOptions{})
		must(err)
		return *lease.Spec.HolderIdentity
	}
	stopFirst := candidate("first")
	events := []string{next(), holder()}
	before, err := leases.Get(ctx, "controller", metav1.GetOptions{})
	must(err)
	stopSecond := candidate("second")
	until("the first renewing beside the second", func() bool {
		now, err := leases.Get(ctx, "controller", metav1.GetOptions{})
		must(err)
		return now.Spec.RenewTime.Time.After(before.Spec.RenewTime.Add(200 * time.Millisecond))
	})
	events = append(events, holder())
	stopFirst()
	// The first gives the lease up before it says so, and the second may be quicker.
	words := []string{next(), next()}
	sort.Strings(words)
	events = append(events, words...)
	events = append(events, holder())
	stopSecond()
	events = append(events, next())
	say("elected", events)
}

func until(what string, holds func() bool) {
	end := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(end) {
			must(errors.New("waited in vain for " + what))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

func main() {
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	must(err)
	config.UserAgent = "go-client/1.0"
	client, err := kubernetes.NewForConfig(config)
	must(err)
	services := client.CoreV1().Services(namespace)

	version, err := client.Discovery().ServerVersion()
	must(err)
	say("version", version.Minor != "")
	groups, resources, err := client.Discovery().ServerGroupsAndResources()
	must(err)
	names := []string{}
	for _, group := range groups {
		names = append(names, group.Name)
	}
	sort.Strings(names)
	say("groups", names)
	routes := 0
	for _, list := range resources {
		for _, resource := range list.APIResources {
			if resource.Kind == "HTTPRoute" && resource.Name == "httproutes" {
				routes++
			}
		}
	}
	say("versions of HTTPRoute", routes)
	openapi, err := client.Discovery().OpenAPIV3().Paths()
	must(err)
	document, err := openapi["apis/gateway.networking.k8s.io/v1"].Schema("application/json")
	must(err)
	say("openapi", json.Valid(document))

	// Create, conflict, retry, patch.
	made, err := services.Create(ctx, service("reviews"), metav1.CreateOptions{})
	must(err)
	say("created", []any{made.Name, made.Spec.Ports[0].TargetPort.IntValue(), made.UID != "", made.ManagedFields[0].Manager})
	_, err = services.Create(ctx, service("reviews"), metav1.CreateOptions{})
	say("again", apierrors.IsAlreadyExists(err))
	stale := made.DeepCopy()
	made.Spec.Selector = map[string]string{"app": "v2"}
	made, err = services.Update(ctx, made, metav1.UpdateOptions{})
	must(err)
	say("updated", []any{made.Spec.Selector["app"], made.Generation})
	_, err = services.Update(ctx, stale, metav1.UpdateOptions{})
	say("stale", apierrors.IsConflict(err))
	tries := 0
	must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		tries++
		if tries > 1 {
			stale, err = services.Get(ctx, "reviews", metav1.GetOptions{})
			must(err)
		}
		stale.Labels["retried"] = "yes"
		_, err = services.Update(ctx, stale, metav1.UpdateOptions{})
		return err
	}))
	say("retried", tries)
	patched, err := services.Patch(ctx, "reviews", types.StrategicMergePatchType, []byte(`{"spec":{"ports":[{"port":81,"name":"admin"}]}}`), metav1.PatchOptions{})
	must(err)
	say("strategic patch", len(patched.Spec.Ports))
	patched, err = services.Patch(ctx, "reviews", types.JSONPatchType, []byte(`[{"op":"remove","path":"/spec/ports/1"}]`), metav1.PatchOptions{})
	must(err)
	say("json patch", len(patched.Spec.Ports))
	_, err = services.Get(ctx, "nope", metav1.GetOptions{})
	say("missing", apierrors.IsNotFound(err))
	bad := service("bad")
	bad.Spec.Type = corev1.ServiceTypeNodePort
	_, err = services.Create(ctx, bad, metav1.CreateOptions{})
	var status *apierrors.StatusError
	errors.As(err, &status)
	say("invalid", []any{apierrors.IsInvalid(err), status.ErrStatus.Details.Causes[0].Field})

	// Server-side apply through the typed builders.
	port := func(target int) *applycorev1.ServiceApplyConfiguration {
		return applycorev1.Service("applied", namespace).WithSpec(applycorev1.ServiceSpec().
			WithPorts(applycorev1.ServicePort().WithName("http").WithPort(80).WithProtocol(corev1.ProtocolTCP).WithTargetPort(intstr.FromInt32(int32(target)))))
	}
	applied, err := services.Apply(ctx, port(8080), metav1.ApplyOptions{FieldManager: "one"})
	must(err)
	say("applied", []any{applied.Spec.Ports[0].TargetPort.IntValue(), string(applied.ManagedFields[0].Operation)})
	extracted, err := applycorev1.ExtractService(applied, "one")
	must(err)
	say("extracted", *extracted.Spec.Ports[0].Name)
	_, err = services.Apply(ctx, port(9090), metav1.ApplyOptions{FieldManager: "two"})
	say("apply conflict", []any{apierrors.IsConflict(err), apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict)})
	applied, err = services.Apply(ctx, port(9090), metav1.ApplyOptions{FieldManager: "two", Force: true})
	must(err)
	say("forced", applied.Spec.Ports[0].TargetPort.IntValue())

	// Pages of one revision, by the pager that informers use.
	for at := range 7 {
		_, err = client.CoreV1().Services("many").Create(ctx, service(fmt.Sprintf("s%d", at)), metav1.CreateOptions{})
		must(err)
	}
	pages := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
		return client.CoreV1().Services("many").List(ctx, options)
	}))
	pages.PageSize = 3
	seen := 0
	must(pages.EachListItem(ctx, metav1.ListOptions{}, func(runtime.Object) error { seen++; return nil }))
	say("paged", seen)
	dynamicClient, err := dynamic.NewForConfig(config)
	must(err)
	many := dynamicClient.Resource(corev1.SchemeGroupVersion.WithResource("services")).Namespace("many")
	must(many.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app in (s1,s2)"}))
	left, err := client.CoreV1().Services("many").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name!=s0"})
	must(err)
	say("left", len(left.Items))

	// A shared informer: list (or the watch-list of newer clients), watch, cache.
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Services().Informer()
	heard := make(chan string, 100)
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { heard <- "add " + object.(*corev1.Service).Name },
		UpdateFunc: func(_, object any) { heard <- "update " + object.(*corev1.Service).Name },
		DeleteFunc: func(object any) { heard <- "delete " + object.(*corev1.Service).Name },
	})
	must(err)
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		must(errors.New("the informer did not sync"))
	}
	words := []string{}
	expect := func(count int) {
		for len(words) < count {
			select {
			case word := <-heard:
				words = append(words, word)
			case <-time.After(10 * time.Second):
				must(fmt.Errorf("heard only %v", words))
			}
		}
	}
	expect(2)
	sort.Strings(words)
	_, err = services.Create(ctx, service("ratings"), metav1.CreateOptions{})
	must(err)
	expect(3)
	_, err = services.Patch(ctx, "ratings", types.MergePatchType, []byte(`{"metadata":{"labels":{"tier":"web"}}}`), metav1.PatchOptions{})
	must(err)
	expect(4)
	must(services.Delete(ctx, "ratings", metav1.DeleteOptions{}))
	expect(5)
	say("informed", words)

	// A watch with bookmarks from a revision; one from a revision that is too new.
	list, err := services.List(ctx, metav1.ListOptions{})
	must(err)
	watching, err := services.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion, AllowWatchBookmarks: true, TimeoutSeconds: new(int64(1))})
	must(err)
	last := watch.EventType("")
	for event := range watching.ResultChan() {
		last = event.Type
	}
	say("last of a watch that times out", last)

	// Our own kinds through the dynamic client, finalizers and owners.
	gvr := schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	route := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
		"metadata": map[string]any{"name": "reviews", "finalizers": []any{"example.com/hold"},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Service", "name": "applied", "uid": string(applied.UID)}}},
		"spec": map[string]any{
			"parentRefs": []any{map[string]any{"group": "", "kind": "Service", "name": "reviews", "port": int64(80)}},
			"rules":      []any{map[string]any{"backendRefs": []any{map[string]any{"name": "reviews", "port": int64(80)}}}},
		},
	}}
	dynamicRoutes := dynamicClient.Resource(gvr).Namespace(namespace)
	_, err = dynamicRoutes.Create(ctx, route, metav1.CreateOptions{})
	must(err)
	must(services.Delete(ctx, "applied", metav1.DeleteOptions{}))
	until("the route being deleted with its owner", func() bool {
		now, err := dynamicRoutes.Get(ctx, "reviews", metav1.GetOptions{})
		must(err)
		return now.GetDeletionTimestamp() != nil
	})
	_, err = dynamicRoutes.Patch(ctx, "reviews", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	must(err)
	_, err = dynamicRoutes.Get(ctx, "reviews", metav1.GetOptions{})
	say("owned and finalized", apierrors.IsNotFound(err))

	elect(client)

	// Who am I.
	self, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	must(err)
	say("self", self.Status.UserInfo.Username)
}
