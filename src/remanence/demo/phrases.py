"""What the scripted model writes to customers, in their language where it knows it, else in English."""

from __future__ import annotations

__all__ = ["phrase"]

_PHRASES: dict[str, dict[str, str]] = {
    "en": {
        "refunded": "We are sorry that it arrived broken. {amount} are on their way back to you.",
        "not_refunded": "We looked into the refund you asked for. It was not made: {reason}",
        "fetched": "A courier will fetch the parcel tomorrow. The money follows when it is back with us.",
        "on_its_way": "Your order is {status}. Its tracking number is {tracking}.",
        "unknown": "We cannot find the order {order}. Could you look for its number in the confirmation?",
        "noted": "Thank you for writing. We have noted what you told us about {order}.",
    },
    "fr": {
        "refunded": "Nous regrettons que l'article soit arrivé cassé. {amount} vous sont remboursés.",
        "not_refunded": "Nous avons examiné le remboursement demandé. Il n'a pas été effectué : {reason}",
        "fetched": "Un coursier passera demain. Le remboursement suit dès le retour du colis.",
        "on_its_way": "Votre commande : {status}. Numéro de suivi : {tracking}.",
        "unknown": "Nous ne trouvons pas la commande {order}. Pouvez-vous vérifier son numéro ?",
        "noted": "Merci de votre message. Nous avons noté ce que vous dites de {order}.",
    },
    "de": {
        "refunded": "Es tut uns leid, dass die Ware beschädigt ankam. {amount} sind auf dem Weg zu Ihnen.",
        "not_refunded": "Wir haben die gewünschte Erstattung geprüft. Sie erfolgte nicht: {reason}",
        "fetched": "Ein Kurier holt das Paket morgen ab. Das Geld folgt, sobald es wieder bei uns ist.",
        "on_its_way": "Ihre Bestellung: {status}. Sendungsnummer: {tracking}.",
        "unknown": "Wir finden die Bestellung {order} nicht. Könnten Sie die Nummer noch einmal prüfen?",
        "noted": "Danke für Ihre Nachricht. Wir haben notiert, was Sie zu {order} schreiben.",
    },
    "es": {
        "refunded": "Sentimos que llegara roto. Le devolvemos {amount}.",
        "not_refunded": "Hemos estudiado la devolución que pidió. No se ha hecho: {reason}",
        "fetched": "Un mensajero recogerá el paquete mañana. El dinero llegará cuando lo tengamos.",
        "on_its_way": "Su pedido: {status}. Número de seguimiento: {tracking}.",
        "unknown": "No encontramos el pedido {order}. ¿Puede comprobar el número?",
        "noted": "Gracias por escribirnos. Hemos anotado lo que nos dice sobre {order}.",
    },
    "ja": {
        "refunded": "破損した状態で届き、申し訳ございません。{amount}を返金いたします。",
        "not_refunded": "ご依頼の返金は行われませんでした:{reason}",
        "fetched": "明日、集荷に伺います。返品の到着後に返金いたします。",
        "on_its_way": "ご注文の状況:{status}。追跡番号:{tracking}。",
        "unknown": "ご注文番号 {order} が見つかりません。番号をご確認いただけますか。",
        "noted": "ご連絡ありがとうございます。{order} の件、承りました。",
    },
}


def phrase(language: str, kind: str, **values: str) -> str:
    """One sentence of a mail. `kind` is a key of the table; every value it names must be given."""
    return _PHRASES.get(language, _PHRASES["en"])[kind].format(**values)
