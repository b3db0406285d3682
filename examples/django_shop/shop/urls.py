"""Where it is done."""

from django.urls import path

from shop import views

urlpatterns = [
    path("people/<str:name>", views.sign_up),
    path("orders/<int:item>", views.order),
    path("items/<int:item>", views.look),
]
